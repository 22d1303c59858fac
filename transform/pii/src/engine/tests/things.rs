//! Numbers, versions and names of things that look like personal data, and have to stay; beside
//! each what has to go.

use super::*;

fn stays(record: &str) {
    assert_eq!(redacted(record), record);
}

/// Numbers with an issuer and a valid Luhn digit.
const LIKE_CARDS: [&str; 9] = [
    "4222222222222",
    "30569309025904",
    "371449635398431",
    "378282246310005",
    "4012888888881881",
    "5105105105105100",
    "6011000990139424",
    "6304000000000000000",
    "4000000000000000006",
];

#[test]
fn counters_are_no_cards_and_cards_are() {
    for number in LIKE_CARDS {
        for key in [
            "rx_bytes",
            "energy_wh",
            "memory",
            "uptime",
            "disk_free",
            "v",
            "value",
            "x",
            "sum",
            "seq",
            "id",
            "order",
            "ifHCInOctets",
            "total",
            "duration_ns",
            "payments_total",
            "card_reads",
            "account_balance",
            "payment_bytes",
        ] {
            stays(&format!(r#"{{"{key}":{number},"{key}_2":[{number}]}}"#));
            stays(&format!(r#"{{"{key}":{number}.0}}"#));
        }
        for key in [
            "rx_bytes",
            "energy_wh",
            "asInt",
            "value",
            "uptime",
            "trace_id",
            "ean",
        ] {
            stays(&format!(r#"{{"{key}":"{number}"}}"#));
            stays(&format!(r#"{{"dataPoints":[{{"{key}":"{number}"}}]}}"#));
        }
        for text in [
            "rx_bytes=N",
            "uptime: N s",
            "sent N bytes",
            "took N ns",
            "sent N rx_bytes now",
            "sent N bytes.",
            r#"log=\"sent N bytes\""#,
            r#"\"trace_id\":\"N\""#,
            "seq N",
        ] {
            stays(&format!(r#"{{"m":"{text}"}}"#).replace('N', number));
        }
        for record in [
            r#"{"card_number":N}"#,
            r#"{"pan":"N"}"#,
            r#"{"cc":N}"#,
            r#"{"payment":{"value":N}}"#,
            r#"{"account_number":"N"}"#,
            r#"{"type":"card","value":N}"#,
            r#"{"value":"N","type":"credit_card"}"#,
            r#"{"card":{"number":{"S":"N"}}}"#,
            r#"{"m":"card N"}"#,
            r#"{"m":"paid with N, thanks"}"#,
            r#"{"m":"pan=N"}"#,
            r#"{"m":"declined N amount 59.99"}"#,
            r#"{"m":"txn N amount=12.50"}"#,
            r#"{"m":"transaction N, total 1"}"#,
            r#"{"m":"auth N price=1"}"#,
            r#"{"m":"charge N balance: 1"}"#,
            r#"{"m":"refund of N used"}"#,
            r#"{"m":"approved N bytes=7"}"#,
            r#"{"m":"authorised: N"}"#,
        ] {
            let record = record.replace('N', number);
            assert!(!redacted(&record).contains(number), "{record}");
        }
    }
    for text in [
        "N amount 59.99",
        "N amount=12.50",
        "N total 9",
        "N balance",
        "N price=1",
        "N used",
        "used N",
        "amount N",
        "N bytes=7",
        "N device_id=7",
        "N seq: 7",
        r#"N \"ms\""#,
    ] {
        let record = format!(r#"{{"m":"{text}"}}"#).replace('N', "4111111111111111");
        assert_eq!(
            redacted(&record),
            record.replace("4111111111111111", "[CARD]")
        );
    }
    for grouped in [
        "4111 1111 1111 1111",
        "5105-1051-0510-5100",
        "3782 822463 10005",
    ] {
        let record = format!(r#"{{"rx_bytes":"{grouped}"}}"#);
        assert!(!redacted(&record).contains(grouped), "{record}");
    }
}

#[test]
fn things_that_share_their_name_with_phones_and_cards_keep_their_numbers() {
    for thing in [
        "phone",
        "mobile",
        "cell",
        "fax",
        "caller",
        "card",
        "telephone",
    ] {
        stays(
            &r#"{"T":{"id":12345678,"uid":1234567890,"uptime":123456789,"rx_bytes":1234567890,"ts":1678206879245,"seen":"2024-05-01","at":"2024-05-01 10:00:00","count":4155552671,"imei":"356938035643809","mv":[4155552,3300000],"line":1234567,"pc":140234123412341,"model":"1234567","free":64000000000,"url":"https://a.example/p/12345678"}}"#
                .replace('T', thing),
        );
        if thing == "card" {
            continue;
        }
        for number in [
            "0171 1234567",
            "415 555 2671",
            "(02) 5555 1234",
            "+49 171 1234567",
        ] {
            for record in [
                r#"{"T":"N"}"#,
                r#"{"T":["N"]}"#,
                r#"{"T":{"number":"N"}}"#,
                r#"{"T":{"value":{"S":"N"}}}"#,
                r#"{"T":{"home":"N","uptime":123456789}}"#,
                r#"{"T":{"contact":"N"}}"#,
                r#"{"T":[{"number":"N"}]}"#,
            ] {
                let record = record.replace('T', thing).replace('N', number);
                assert_eq!(redacted(&record), record.replace(number, "[PHONE]"));
            }
        }
        for record in [r#"{"T":{"number":"4155552671"}}"#, r#"{"T":"4155552671"}"#] {
            let record = record.replace('T', thing);
            assert_eq!(redacted(&record), record.replace("4155552671", "[PHONE]"));
        }
    }
    stays(
        r#"{"lte":{"cell":21627653,"nmr":[{"cell":247}]},"cell_1":3300000,"cells":[3300000,3310000]}"#,
    );
    stays(
        r#"{"cell":"21627653","cell_id":"21627653","phone_id":12345678,"mobile_country_code":1234567}"#,
    );
}

#[test]
fn versions_are_no_addresses() {
    for key in [
        "version",
        "fw",
        "firmwareVersion",
        "sw",
        "sw_version",
        "hw",
        "hwRev",
        "build",
        "release",
        "kernel",
        "os",
        "driver",
        "user_agent",
        "ua",
        "agent",
        "browser_version",
        "version_current",
    ] {
        stays(&format!(
            r#"{{"{key}":"2.4.10.7","x":{{"{key}":["2.4.10.7"]}}}}"#
        ));
    }
    for text in [
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36",
        "Mozilla/5.0 (Windows NT 10.0) Chrome/124.0.6.7 Safari/537.36 Edg/124.0.2.9 App/3.1.4.5",
        "Chrome/124.0.6.7",
        "version 2.4.10.7",
        "Version: 2.4.10.7",
        "fw=2.4.10.7 up",
        "fw_version=2.4.10.7",
        "running kernel 5.4.0.100",
        "upgraded firmware from 2.4.10.6 to 2.4.10.7",
        "upgraded from 2.4.10.6 to 2.4.10.7",
        "upgraded to 2.4.10.7",
        "updated app from 2.4.10.6 to 2.4.10.7",
        "agent 2.4.10.7-rc1",
        "got 2.4.10.7-beta.2, 2.4.10.7_rc1, 2.4.10.7-SNAPSHOT. 2.4.10.7-dev",
        "updated firmware to 2.4.10.7",
        "upgraded firmware from 2.4.10.107 to 2.4.10.108.",
        "release: 2.4.10.7",
        "release=2.4.10.7",
        "release version 2.4.10.7",
        "firmware 2.4.10.6 and 2.4.10.7",
        "firmware 2.4.10.6 -> 2.4.10.7",
        "build 2.4.10.7",
        "1.3.6.1",
    ] {
        stays(&serde_json::json!({ "msg": text }).to_string());
    }
    stays(r#"{"user_agent":"okhttp/4.9.1.2 App/3.12.4.55","ua":{"original":"Foo/1.2.3.4"}}"#);
    stays(
        r#"[{"key":"service.version","value":{"stringValue":"2.4.10.7"}},{"type":"fw","value":"2.4.10.7"}]"#,
    );
    stays(r#"{"firmware":{"current":"198.51.100.23","previous":"2.4.10.7"}}"#);
    stays(r#"{"version":"App 2.4.10.107 (stable)","fw":"81.4.10.107 (stable)"}"#);
    stays(r#"{"agent":"7.46.0.1","ua":"tool/2.4.10.7 Other/124.0.6.7"}"#);
    stays(r#"{"key":"http.user_agent","value":{"stringValue":"Foo/1.2.3.4"}}"#);
    let address = "198.51.100.23";
    for text in [
        "connected from A",
        "client A",
        "server=A",
        "host/A:9092",
        "nginx/A",
        "websocket upgrade from A",
        "websocket upgraded from A",
        "websocket upgraded from A to A",
        "connection upgraded to A",
        "connection upgrade to A",
        "updating firmware from A",
        "updating firmware to A",
        "updating software from A",
        "update package from A",
        "migrated image from A to A",
        "pushed firmware 2.1.4 to A",
        "flashing firmware to A",
        "sending build to A",
        "firmware of A is outdated",
        "checking version of A",
        "updated version of A",
        "DHCP release A",
        "kernel: A is a martian",
        "version 2.4.10.7 A",
        "version 2.4.10.7 and A",
        "version and A",
        "pushed firmware 2.1.4 -> A",
        "release: A",
        "fw_server=A",
        "firmware_ip: A",
        "fw_client=A",
        "A-device42",
        "A_dev0",
        "A-dev0",
        "A-released",
        "A-finale",
        "A-rc1x",
        "localhost/A",
        "/A:5000",
        "GET http://A/v1",
        "version 2.4.10.7 at A",
        "downloading firmware from A",
        "upgrade of A failed",
        "updated dns from A to A",
        "firmware server A",
        "build host A",
        "Chrome/124.0.0.0 A",
        "A - - \"GET /\" 200 \"Mozilla/5.0 Chrome/124.0.0.0\"",
    ] {
        let record = serde_json::json!({ "msg": text.replace('A', address) }).to_string();
        assert_eq!(
            redacted(&record),
            record.replace(address, "198.51.100.0/24")
        );
    }
    for record in [
        r#"{"firmware":{"server":"A","ip":"A"}}"#,
        r#"{"fw_server":"A","agent":"A","agent_ip":"A","os":{"host":"A"}}"#,
        r#"{"driver":{"last_seen":"A"},"platform":{"client":"A"},"os":["A"],"firmware":{"fetched_by":"A"}}"#,
        r#"{"fw_client":"A","version_seen_by":"A","firmware":"fetched from A","kernel":"SRC=A"}"#,
        r#"{"agent":{"log":"host/A"},"driver":"kafka/A","platform":"Kafka/A","build":{"log":"host/A"}}"#,
    ] {
        let record = record.replace('A', address);
        assert_eq!(
            redacted(&record),
            record.replace(address, "198.51.100.0/24")
        );
    }
    for address in ["81.2.69.142", "73.15.22.9", "10.1.2.3"] {
        for key in ["agent", "driver", "platform", "os", "sw"] {
            for value in [
                r#""A""#,
                r#"["A"]"#,
                r#"{"client":"A"}"#,
                r#"{"x":{"value":"A"}}"#,
            ] {
                let record = format!(r#"{{"{key}":{value}}}"#).replace('A', address);
                assert!(!redacted(&record).contains(address), "{record}");
            }
        }
    }
    let private = r#"{"firmware":"192.168.1.7"}"#;
    assert_eq!(redacted(private), private.replace(".7", ".0/24"));
}

#[test]
fn versions_of_packages_and_images_are_no_addresses() {
    for text in [
        "nginx:1.25.3.1",
        "pulled image nginx:1.25.3.1 in 3 s",
        "docker.io/library/nginx:1.25.3.1",
        "registry.example:5000/team/app:1.2.3.4@sha256:00ff",
        "ghcr.io/org/app:v1.2.3.4",
        "postgres:15.4.0.1-alpine",
        "pkg:npm/left-pad@1.2.3.4",
        "pkg:maven/org.apache.x/y@121.2.30.4?type=jar",
        "pkg:npm/%40scope/name@1.2.3.4",
        "@scope/name@1.2.3.4",
        "v1.2.3.4",
        "V1.2.3.4 is out",
        "## 1.2.3.4",
        "# 2.14.101.7 (2026-11-21)",
        "## [1.2.3.4] - 2026-11-21",
        "fixes\n\n## [2.14.101.7] - 2026-11-21\n- more",
        "app (1.2.3.4) unstable; urgency=medium",
        "Bump nginx from 1.25.3.0 to 1.25.3.1",
        "app-1.2.3.4.tar.gz",
    ] {
        stays(&serde_json::json!({ "msg": text }).to_string());
    }
    for key in [
        "image",
        "images",
        "container_image",
        "imageTag",
        "tag",
        "purl",
    ] {
        stays(&format!(
            r#"{{"{key}":"app:1.2.3.4","x":{{"{key}":["1.2.3.4"]}}}}"#
        ));
    }
    for address in ["198.51.100.23", "10.1.2.3", "81.2.69.142"] {
        for text in [
            "nginx:A",
            "peer:A",
            "host:A",
            "client/web:A",
            "tcp://proxy:A",
            "nginx:A:80",
            "@scope/name@A",
            "pkg@A",
            "# A gateway",
            "## A",
            "(A) unstable",
            "#A",
            "v A",
            "bump A",
            "moved nginx from A to A",
        ] {
            let record = serde_json::json!({ "msg": text.replace('A', address) }).to_string();
            assert!(!redacted(&record).contains(address), "{record}");
        }
        for key in ["image", "images", "tag", "purl"] {
            for value in ["A", "host:A", "http://A/x"] {
                let record = serde_json::json!({ key: value.replace('A', address) }).to_string();
                assert!(!redacted(&record).contains(address), "{record}");
            }
        }
    }
    for text in [
        "root@1.2.3.4",
        "x/root@1.2.3.4",
        "ssh://a@1.2.3.4",
        "redis:8.8.8.8:80",
    ] {
        let record = serde_json::json!({ "msg": text }).to_string();
        assert!(!redacted(&record).contains(text), "{record}");
    }
}

#[test]
fn names_of_things_are_no_persons() {
    for key in [
        "host.name",
        "service.name",
        "process.name",
        "container.name",
        "k8s.pod.name",
        "app_name",
        "deviceName",
        "thread.name",
        "agent.name",
    ] {
        stays(&format!(
            r#"{{"{key}":"kafka-python","x":{{"{key}":"Line Three"}}}}"#
        ));
    }
    for noun in ["client", "worker", "operator", "member", "sender"] {
        for value in [
            "kafka-python",
            "rdkafka",
            "python/3.12",
            "etcd-0",
            "prometheus-operator",
            "worker_3",
        ] {
            for record in [
                r#"{"<K>.name":"<V>"}"#,
                r#"{"<K>_name":"<V>"}"#,
                r#"{"<K>":{"name":"<V>"}}"#,
                r#"{"key":"<K>.name","value":{"stringValue":"<V>"}}"#,
                r#"{"m":"<K>_name=<V> up"}"#,
            ] {
                stays(&record.replace("<K>", noun).replace("<V>", value));
            }
        }
        for value in [
            "Lee Ray",
            "lee-ray",
            "lee.ray7",
            "Kafka",
            "ruby",
            "lee kafka",
        ] {
            for record in [
                r#"{"<K>.name":"<V>"}"#,
                r#"{"<K>_name":"<V>"}"#,
                r#"{"<K>":{"name":"<V>"}}"#,
            ] {
                let record = record.replace("<K>", noun).replace("<V>", value);
                assert_eq!(redacted(&record), record.replace(value, "[NAME]"));
            }
        }
    }
    for record in [
        r#"{"user.name":"kafka-python"}"#,
        r#"{"first_name":"worker"}"#,
        r#"{"client":{"user":{"name":"kafka-python"}}}"#,
        r#"{"client":{"first_name":"proxy"}}"#,
    ] {
        assert!(redacted(record).contains("[NAME]"), "{record}");
    }
}

#[test]
fn geometries_of_well_known_text_are_coarse() {
    for (text, expected) in [
        ("POINT(13.404954 52.520008)", "POINT(13.40 52.52)"),
        ("point (-13.404954 52.5)", "point (-13.40 52.5)"),
        (
            "SRID=4326;POINT Z (13.404954 52.520008 500.1234)",
            "SRID=4326;POINT Z (13.40 52.52 500.1234)",
        ),
        (
            "at LINESTRING(13.404954 52.520008, 13.5 52.6123) now",
            "at LINESTRING(13.40 52.52, 13.5 52.61) now",
        ),
        (
            "POLYGON((1.5 2.5,1.23456 2.5,1.5 2.5),(1 1))",
            "POLYGON((1.5 2.5,1.23 2.5,1.5 2.5),(1 1))",
        ),
        (
            "GEOMETRYCOLLECTION(POINT(13.404954 52.520008),MULTIPOINT((1.234 5.678)))",
            "GEOMETRYCOLLECTION(POINT(13.40 52.52),MULTIPOINT((1.23 5.68)))",
        ),
        ("POINT(13.404954 52.52", "POINT(13.40 52.52"),
        ("POINT(13.4 52.5)", "POINT(13.4 52.5)"),
        (
            "POINT(389000.123 5820000.456)",
            "POINT(389000.123 5820000.456)",
        ),
        ("Point(12.3456, 100.5678)", "Point(12.3456, 100.5678)"),
        (
            "checkpoint(12.3456 100.5678)",
            "checkpoint(12.3456 100.5678)",
        ),
        ("f(12.3456 100.5678) POINT()", "f(12.3456 100.5678) POINT()"),
    ] {
        for key in ["msg", "geom", "wkt"] {
            let record = serde_json::json!({ key: text }).to_string();
            let out = redacted(&record);
            assert_eq!(out, record.replace(text, expected), "{record}");
            assert_eq!(redacted(&out), out);
        }
    }
}

#[test]
fn addresses_of_no_person_stay() {
    for address in [
        "0.0.0.0",
        "0.0.0.255",
        "127.0.0.1",
        "127.0.1.1",
        "255.255.255.255",
        "255.255.255.0",
        "255.255.254.0",
        "255.0.0.0",
        "224.0.0.251",
        "239.255.255.250",
        "10.0.0.0",
        "192.168.7.255",
        "192.168.7.0/24",
        "192.168.7.0/255.255.255.0",
        "::",
        "::1",
        "ff02::fb",
        "::ffff:127.0.0.1",
    ] {
        stays(&format!(
            r#"{{"ip":"{address}","a":["{address}"],"m":"to {address} ok"}}"#
        ));
    }
    stays(r#"{"ip":2130706433}"#);
    // Hosts of networks that are larger than most.
    for (address, left) in [
        ("10.1.2.255", "10.1.2.0/24"),
        ("172.17.1.255", "172.17.1.0/24"),
    ] {
        let record = format!(r#"{{"ip":"{address}","m":"to {address} ok"}}"#);
        assert_eq!(redacted(&record), record.replace(address, left));
    }
    assert_eq!(
        redacted(
            r#"{"m":"inet 192.168.7.9/255.255.255.0 netmask 255.255.255.0 broadcast 192.168.7.255"}"#
        ),
        r#"{"m":"inet 192.168.7.0/24/255.255.255.0 netmask 255.255.255.0 broadcast 192.168.7.255"}"#
    );
}

#[test]
fn systemd_units_are_no_addresses_of_mail() {
    for unit in [
        "user@1000.service",
        "getty@tty1.service",
        "docker@x.socket",
        "wg-quick@wg0.service",
        "foo@bar.timer",
        "user@0.slice",
        "run@1000.scope",
        "dev@x.mount",
        "systemd-fsck@dev-sda1.service",
        "postgresql@14-main.service",
        "ifup@enp0s3.service",
    ] {
        stays(&format!(
            r#"{{"unit":"{unit}","m":"Started {unit}.","n":"{unit}: Main PID 7"}}"#
        ));
    }
    assert_eq!(
        redacted(r#"{"email":"lee@b.service","m":"lee@service.example lee@x.services"}"#),
        r#"{"email":"[EMAIL]","m":"[EMAIL] [EMAIL]"}"#
    );
    for address in [
        "bob@corp.target",
        "a@mail.service",
        "a@mail1.service",
        "a@3com.service",
        "a@1000.corp.service",
        "a@x.tty1.timer",
        "a@corp.device",
    ] {
        let record = format!(r#"{{"m":"to {address} ok"}}"#);
        assert_eq!(redacted(&record), record.replace(address, "[EMAIL]"));
    }
}

#[test]
fn statistics_of_latency_are_no_coordinates() {
    for key in [
        "read_lat",
        "p99_lat",
        "disk_read_lat",
        "http_request_lat",
        "value_long",
        "flat",
    ] {
        stays(&format!(r#"{{"{key}":1.234567}}"#));
    }
}

#[test]
fn a_record_may_hold_any_number_of_findings_in_bounded_memory() {
    let mut engine = engine();
    let points = 50_000;
    let track = format!(
        r#"{{"type":"LineString","coordinates":[{}]}}"#,
        vec!["[18.063240,59.334591]"; points].join(",")
    );
    assert!(track.len() > 1_000_000 && track.len() < 1 << 21);
    let mut wide = with("[limits]\nrecord_bytes = 4194304");
    let out = passed(&mut wide, &track);
    assert!(
        out == track
            .replace("18.063240", "18.06")
            .replace("59.334591", "59.33")
    );
    assert_eq!(wide.findings().len(), 2 * points);
    // Pointers take no more memory than a few records, however deep the findings lie.
    let deep = format!(
        "{}[{}]{}",
        "{\"a long name of a container that is open\":".repeat(20),
        vec!["\"a@b.org\""; 40_000].join(","),
        "}".repeat(20)
    );
    assert!(passed(&mut engine, &deep).contains("[EMAIL]"));
    assert_eq!(engine.findings().len(), 40_000);
    assert!(engine.pointers.len() < 6 << 20, "{}", engine.pointers.len());
    assert_eq!(engine.reports().last().unwrap().pointer, "/…");
}
