//! The table of key endings: a new key name is one more word here.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::evidence::Evidence;
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
         patient patients contact contacts passenger passengers employee employees member members \
         client clients recipient recipients author authors student students guest guests \
         resident residents rider riders worker workers operator operators subscriber subscribers \
         visitor visitors citizen citizens buyer buyers seller sellers sender senders shopper \
         beneficiary beneficiaries applicant applicants candidate candidates attendee attendees \
         participant participants teacher teachers pupil pupils nurse nurses doctor doctors \
         physician physicians practitioner practitioners spouse husband wife mother father guardian \
         caregiver caregivers relative relatives friend friends colleague colleagues technician \
         technicians courier couriers pilot pilots cyclist cyclists traveler traveller renter \
         lessee landlord occupant occupants inhabitant inhabitants victim victims witness \
         policyholder insured payer payee donor donors voter trainee trainees assignee requester \
         requestor reporter approver reviewer submitter staff relatedperson nextofkin \
         emergencycontact",
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
         cardholdername accountholder patientname username displayname preferredname contactperson",
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
        "birthdate dateofbirth dob birthday birthdt bornon borndate birthtime bday birthdatetime datebirth birthdatum geburtsdatum \
         geburtstag fechanacimiento datenaissance",
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
    (Evidence::PHONE, Whole, "mobile fax caller callee handy"),
    // Of a battery, a table or a radio network as often as of a phone.
    (Evidence::DIALLED, Whole, "cell cells"),
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
         firmwareversion buildid buildnumber oid kernel bios bootloader baseband sdk patchlevel",
    ),
    (
        Evidence::AGENT,
        Tail,
        "agent useragent ua browser os driver platform distro edition library package plugin \
         runtime sw software hw hardware image images imagetag tag artifact purl",
    ),
    (
        Evidence::HOSTED,
        Tail,
        "host hosts server servers gateway gateways gw peer peers remote source src dst dest \
         destination dns ntp proxy broker endpoint url uri node nodes address addresses addr \
         nameserver nameservers upstream downstream listener",
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
        "value values val raw original deg degrees decimal x y v \
         s n b m l ss ns string text int integer long float double number numberdouble numberlong \
         numberint numberdecimal stringvalue intvalue longvalue floatvalue doublevalue bytesvalue \
         numbervalue valuestring valuedecimal valueinteger valuequantity asstring asdouble asint \
         array list arrayvalue listvalue kvlistvalue mapvalue fields items item element content data \
         reported desired current latest last default formatted full no num digits primary secondary \
         main home work office private personal business mobile landline direct national \
         international e pan",
    ),
    (
        Evidence::LINE,
        Whole,
        "line lines address house number apartment apt unit suite full formatted text street",
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
         seq uid model pc port pid",
    ),
    (Evidence::BARE_ID, Whole, "id ids"),
    (
        Evidence::LABEL,
        Whole,
        "type name key label field kind attribute attr property prop param parameter fieldname \
         system url code n resourcetype",
    ),
    (
        Evidence::CONTENT,
        Whole,
        "value values val v data content text stringvalue valuestring intvalue fieldvalue \
         doublevalue numbervalue valuedecimal valueinteger valuedatetime valuedate valuequantity \
         valueaddress valuehumanname valuecontactpoint valueidentifier valuecode vs vd vb",
    ),
    // What is measured stands under these as well.
    (
        Evidence::COUNTER,
        Whole,
        "value values val raw reading readings state num",
    ),
    (
        Evidence::COUNTER,
        Tail,
        "ns us ms nanos micros millis nanoseconds microseconds milliseconds counter count cnt \
         ticks nonce lsn xid rowid sec secs seconds minutes hours days bytes byte octets packets \
         pkts bits kb mb gb requests reqs records hits reads writes ops energy wh kwh mwh joules \
         power watts memory mem ram rss heap disk storage space uptime duration elapsed runtime \
         latency lag age ttl cycles instructions usage used free available total totals sum min max \
         avg mean size length len capacity volume rate speed freq frequency voltage current mv \
         amount balance price cost quantity qty barcode ean upc gtin isbn asint intvalue longvalue \
         numberlong numberint inoctets outoctets calls errors",
    ),
];

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

/// A list of words that say something by themselves.
#[derive(Clone, Copy)]
pub(super) enum List {
    /// Words of a key, wherever they stand, under which a number that looks like a card is one.
    Payments,
    /// Words that turn what may be a coordinate into a statistic, mostly of latency.
    Statistics,
    /// Words before `long` that make it a type, or a length.
    Types,
    /// Words around `lat` and `long` that say in what way a coordinate is written.
    Notations,
    /// Words at the end of a key that say nothing.
    Fillers,
    /// Words for persons that are programs as often, of which an address is that of a machine.
    Programs,
    /// Words in the names of programs that are none in those of persons.
    Software,
}

const LISTS: [(List, &str); 7] = [
    (
        List::Payments,
        "card cards pan cc creditcard debitcard cardnumber credit debit payment payments pay paid \
         payer billing account acct wallet checkout purchase visa mastercard amex maestro discover \
         jcb unionpay diners",
    ),
    (
        List::Statistics,
        "p avg mean median sum stddev p50 p90 p95 p99 read write request req response resp net \
         network db query disk io cpu gpu ping rtt tcp udp http rpc grpc api cache commit fsync \
         flush sync queue wait seek dns tls service svc upstream backend op ops call",
    ),
    (
        List::Types,
        "value as is int unsigned signed type data field how too so very not for",
    ),
    (
        List::Notations,
        "deg degs degree degrees decimal dec dd wgs rad radians gps gnss start end from to origin \
         destination current last prev previous pickup dropoff north south east west min max center \
         centre mean avg e",
    ),
    (
        List::Fillers,
        "info data profile details record list value raw text iso utc str string",
    ),
    (
        List::Programs,
        "client clients member members worker workers operator sender",
    ),
    (
        List::Software,
        "kafka librdkafka rdkafka sarama python java golang nodejs dotnet jvm php flink airflow celery \
         sidekiq worker workers consumer producer client server agent proxy gateway bot service svc \
         app api cron cronjob scheduler controller operator exporter prometheus grafana etcd redis \
         postgres postgresql mysql mongodb rabbitmq mqtt nginx envoy istio kubernetes kube kubelet \
         docker containerd terraform ansible gitlab github curl sdk daemon cli pod vm",
    ),
];

/// The lists that hold each word, as bits.
static BY_WORD: LazyLock<HashMap<&'static [u8], u8>> = LazyLock::new(|| {
    let mut by_word = HashMap::new();
    for (list, words) in LISTS {
        for word in words.split_ascii_whitespace() {
            *by_word.entry(word.as_bytes()).or_default() |= list.bit();
        }
    }
    by_word
});

impl List {
    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Whether the list holds `word`.
    pub(super) fn holds(self, word: &[u8]) -> bool {
        let lists = BY_WORD.get(word);
        lists.is_some_and(|lists| lists & self.bit() != 0)
    }
}
