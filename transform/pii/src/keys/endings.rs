//! The table of key endings: a new key name is one more word here.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::Evidence;
use Cover::{Tail, Whole};

/// How much of a key an entry has to cover.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cover {
    /// The last words: whatever stands before only says more.
    Tail,
    /// The whole key.
    Whole,
}

/// Key endings and what they say. The words of an ending are written together, in lower case;
/// endings are separated by spaces.
const ENDINGS: &[(Evidence, Cover, &str)] = &[
    (
        Evidence::PERSON,
        Tail,
        "person persons people user users owner owners driver drivers customer customers \
         patient patients contact contacts",
    ),
    (
        Evidence::THING,
        Tail,
        "device devices host hosts sensor sensors machine machines vehicle vehicles car \
         gateway gateways app application service services server servers file files process \
         model product products network interface interfaces node cluster pod container \
         company organization organisation org team group groups role roles plan city country \
         region state site browser os agent asset assets phone tenant",
    ),
    (Evidence::BARE_NAME, Whole, "name names"),
    (Evidence::BARE_ADDRESS, Whole, "address addresses addr"),
    (
        Evidence::NAME,
        Tail,
        "firstname lastname fullname givenname familyname middlename maidenname surname \
         forename nickname personname realname legalname birthname fname lname cardholder \
         cardholdername accountholder patientname username",
    ),
    (
        Evidence::STREET,
        Tail,
        "street streetname streetaddress homeaddress postaladdress mailingaddress \
         billingaddress shippingaddress deliveryaddress residentialaddress addressline \
         addrline streetline housenumber fulladdress",
    ),
    (
        Evidence::BIRTH_DATE,
        Tail,
        "birthdate dateofbirth dob birthday birthdt bornon borndate birthtime",
    ),
    (Evidence::BIRTH_DATE, Whole, "birth born"),
    (
        Evidence::EMAIL,
        Tail,
        "email emails mail emailaddress mailaddress emailid",
    ),
    (
        Evidence::PHONE,
        Tail,
        "phone phones phonenumber phonenumbers phoneno phonenum telephone telephonenumber \
         telephoneno tel telno telnumber mobilenumber mobileno mobilephone cellphone \
         cellnumber cellno msisdn faxnumber faxno homephone workphone callernumber callerid \
         contactnumber contactno whatsapp phonehome phonework phonemobile phonecell",
    ),
    (
        Evidence::PHONE,
        Whole,
        "mobile fax caller callee cell handy",
    ),
    (
        Evidence::SSN,
        Tail,
        "ssn ssnnumber socialsecurity socialsecuritynumber socialsecurityno socialsecuritynum \
         itin taxpayerid taxpayernumber ustaxid",
    ),
    (
        Evidence::CARD,
        Tail,
        "creditcard creditcardnumber creditcardno creditcardnum debitcard debitcardnumber \
         cardnumber cardno cardnum paymentcard bankcard ccnumber ccnum ccno cardpan \
         primaryaccountnumber",
    ),
    (Evidence::CARD, Whole, "cc card pan"),
    (
        Evidence::IP,
        Tail,
        "ip ips ipaddress ipaddr ipaddresses ipv4 ipv6 remoteaddr remoteaddress",
    ),
    (
        Evidence::MAC,
        Tail,
        "mac macs macaddress macaddr macaddresses bssid hwaddr ethernetaddress \
         bluetoothaddress btaddress bleaddress",
    ),
    (
        Evidence::VERSION,
        Tail,
        "version versions ver firmware fw build release revision rev versionname \
         firmwareversion buildid buildnumber oid",
    ),
    (
        Evidence::COORDINATE,
        Tail,
        "latitude longitude lng lon gpslat gpslong geolat geolong latdeg londeg lngdeg longdeg \
         latitudedeg longitudedeg",
    ),
    (Evidence::COORDINATE, Whole, "lat long"),
    (
        Evidence::COORDINATES,
        Tail,
        "coordinates coordinate coords latlng latlon latlong lonlat lnglat geopoint \
         geolocation gpsposition gpslocation bbox geohashcenter",
    ),
    (Evidence::COORDINATES, Whole, "gps"),
    (
        Evidence::PLACE,
        Tail,
        "location position geo place loc center",
    ),
    (Evidence::SPOT, Tail, "location geo loc"),
    (
        Evidence::VALUE,
        Whole,
        "value val raw deg degrees decimal x y v",
    ),
    (
        Evidence::LINE,
        Whole,
        "line lines address house number apartment apt unit suite full formatted",
    ),
    (
        Evidence::SECRET,
        Tail,
        "secretaccesskey awssecretkey awssecret secretkey awssecretaccesskey",
    ),
    (Evidence::SECRET, Whole, "secret"),
    (
        Evidence::IDENTIFIER,
        Tail,
        "id ids uuid guid serial serials serialnumber serialno sn imei imsi iccid meid vin \
         traceid spanid requestid hash checksum sku timestamp ts time epoch offset sequence \
         seq",
    ),
    (Evidence::BARE_ID, Whole, "id ids"),
    (
        Evidence::LABEL,
        Whole,
        "type name key label field kind attribute attr property prop param parameter fieldname",
    ),
    (
        Evidence::CONTENT,
        Whole,
        "value val v data content text stringvalue valuestring intvalue fieldvalue",
    ),
    (
        Evidence::COUNTER,
        Tail,
        "ns us ms nanos micros millis nanoseconds microseconds milliseconds counter count cnt \
         ticks nonce lsn xid rowid",
    ),
];

/// Words of a key, wherever they stand, under which a number that looks like a card is one.
pub(super) const PAYMENTS: &str = "card cards pan cc creditcard debitcard cardnumber credit debit payment payments pay paid \
     payer billing account acct wallet checkout purchase visa mastercard amex maestro discover jcb \
     unionpay diners";

/// What an ending says, and what it says besides if it is the whole key.
#[derive(Clone, Copy, Default)]
struct Says {
    tail: Evidence,
    whole: Evidence,
}

/// The table, by ending.
static BY_ENDING: LazyLock<HashMap<&'static [u8], Says>> = LazyLock::new(|| {
    let mut by_ending = HashMap::new();
    for &(evidence, cover, endings) in ENDINGS {
        for ending in endings.split_ascii_whitespace() {
            let says: &mut Says = by_ending.entry(ending.as_bytes()).or_default();
            match cover {
                Tail => says.tail |= evidence,
                Whole => says.whole |= evidence,
            }
        }
    }
    by_ending
});

/// What a key says that ends in `ending`, and that is all of it if `whole`.
pub(super) fn says(ending: &[u8], whole: bool) -> Evidence {
    match BY_ENDING.get(ending) {
        Some(says) if whole => says.tail | says.whole,
        Some(says) => says.tail,
        None => Evidence::NONE,
    }
}

/// Words that turn a coordinate into a statistic, mostly of latency.
pub(super) const STATISTICS: &str =
    "p avg mean min max median p50 p90 p95 p99 read write request net";

/// Words at the end of a key that say nothing.
pub(super) const FILLERS: &str =
    "info data profile details record list value raw text iso utc str string";

/// Whether `list` (separated by spaces) holds `word`.
pub(super) fn holds(list: &str, word: &[u8]) -> bool {
    list.split(' ').any(|entry| entry.as_bytes() == word)
}
