use super::*;

#[test]
fn json_becomes_parquet_and_comes_back() {
    let records = [
        r#"{"device":"a","temp":21,"ok":true,"pos":{"lat":1.5,"lon":-2}}"#,
        r#"{"device":"b\u00e9\n","temp":null,"tags":["x","y",null],"pos":{"lat":2.5}}"#,
        r#"{ "temp" : 22.5 , "device" : "c", "list":[{"a":1},{"b":"z"}] }"#,
    ];
    assert_eq!(
        rows(&records),
        [
            r#"{"device":"a","temp":21.0,"ok":true,"pos":{"lat":1.5,"lon":-2}}"#,
            r#"{"device":"bé\n","pos":{"lat":2.5},"tags":["x","y",null]}"#,
            r#"{"device":"c","temp":22.5,"list":[{"a":1},{"b":"z"}]}"#,
        ]
    );
}
