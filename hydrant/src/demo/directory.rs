//! The demo's directory: creates key, policy and configuration before any stage runs.

use std::path::{Path, PathBuf};

use hydrant_core::settings::path_in_url;
use hydrant_core::{Context, Error, Result};
use hydrant_process::config::{Layers, Problems};

use crate::run::RunPlan;

/// The id of the demo's key.
const KEY_ID: &str = "demo";

/// The demo's directory.
#[derive(Debug)]
pub(crate) struct DemoDir {
    pub(super) dir: PathBuf,
}

impl DemoDir {
    /// Creates the directory, the key and the policy.
    pub(crate) async fn prepare(dir: Option<PathBuf>, context: &Context) -> Result<Self> {
        let dir = match dir {
            Some(dir) => dir,
            None => {
                let name = format!("hydrant-demo-{}", &context.random.identity()[..8]);
                std::env::temp_dir().join(name)
            }
        };
        path_in_url(&dir)?;
        let disk = &*context.disk;
        let stat = disk.stat(&dir).await;
        let stat = stat.map_err(|error| Error::io("look at", &dir, error))?;
        if stat.is_some_and(|stat| !stat.is_dir) {
            return Err(Error::refused(format!(
                "`{}` is a file: name a new directory with `--dir`, or leave it out",
                dir.display()
            )));
        }
        disk.create_dir_all(&dir)
            .await
            .map_err(|error| Error::io("make", &dir, error))?;
        let there = disk
            .list(&dir)
            .await
            .map_err(|error| Error::io("list", &dir, error))?;
        if !there.is_empty() {
            return Err(Error::refused(format!(
                "`{}` is not empty: name a new directory with `--dir`, or leave it out",
                dir.display()
            )));
        }
        let place = DemoDir { dir };
        place.write(
            &place.key_file(),
            &format!(
                "{KEY_ID} = \"{}{}\"\n",
                context.random.identity(),
                context.random.identity()
            ),
        )?;
        place.write(&place.policy_file(), include_str!("policy.toml"))?;
        Ok(place)
    }

    /// Writes the configuration for `hydrant run`, and reads the plan from it.
    pub(crate) fn plan(&self, rate: u64, devices: u64) -> Result<RunPlan> {
        let file = self.dir.join("hydrant.toml");
        let text = format!(
            "# Runs what the demo ran: hydrant run {file}\n\
             [run]\ndir = {dir}\n\n\
             [producer]\nsimulate = 0\ndevices = {devices}\nrate = {rate}\n\n\
             [transform]\npolicy = {policy}\n\n\
             [sink]\nflush-interval = \"2s\"\n\n\
             [pii]\nkey-file = {key}\n",
            file = file.display(),
            dir = toml_text(&self.dir),
            policy = toml_text(&self.policy_file()),
            key = toml_text(&self.key_file()),
        );
        std::fs::write(&file, text).map_err(|error| Error::io("write", &file, error))?;
        let mut problems = Problems::new();
        let layers = Layers::load(Some(&file), [], &mut problems);
        let plan = RunPlan::read(&layers, &mut problems);
        problems.into_result()?;
        plan.ok_or_else(|| {
            Error::fatal("the demo's configuration was refused without a reason: report this")
        })
    }

    /// The directory of the lake.
    pub(crate) fn lake_dir(&self) -> PathBuf {
        self.dir.join("lake")
    }

    /// The lake's URL.
    pub(crate) fn lake_url(&self) -> String {
        format!("file:{}", self.lake_dir().display())
    }

    /// The raw stream's URL.
    pub(crate) fn raw_url(&self) -> String {
        format!("local:{}", self.dir.join("raw").display())
    }

    /// Lists the files of the directory, for people.
    pub(crate) fn contents(&self) -> String {
        format!(
            "everything is in {}\n  the key of the tokens: {} (readable by you only)\n  the policy: {}\n  \
             continue with: hydrant run {}",
            self.dir.display(),
            self.key_file().display(),
            self.policy_file().display(),
            self.dir.join("hydrant.toml").display(),
        )
    }

    fn key_file(&self) -> PathBuf {
        self.dir.join("pii-keys.toml")
    }

    fn policy_file(&self) -> PathBuf {
        self.dir.join("policy.toml")
    }

    /// Writes a new file that only the user who runs the demo may read.
    fn write(&self, path: &Path, text: &str) -> Result<()> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Error::io("write", path, error))
    }
}

/// A path as a TOML string.
fn toml_text(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_owner_may_read_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let place = DemoDir {
            dir: dir.path().to_owned(),
        };
        let key = place.key_file();
        place.write(&key, "demo = \"0\"\n").unwrap();
        let mode = std::fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // An existing file may be readable by others.
        assert!(place.write(&key, "demo = \"1\"\n").is_err());
    }
}
