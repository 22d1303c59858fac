//! The tables of keys: a new key name is one more word here.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::evidence::Evidence;

/// Words of keys with what they say, written together, in lower case, and separated by spaces.
type WordTable = &'static [(Evidence, &'static str)];

/// The last words of a key: whatever stands before only says more.
const ENDINGS: WordTable = &[
    (
        Evidence::PERSON,
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
        "device devices host hosts sensor sensors machine machines vehicle vehicles car \
         gateway gateways app application service services server servers file files process \
         model product products network interface interfaces node cluster pod container \
         company organization organisation org team group groups role roles plan city country \
         region state site browser os agent asset assets phone tenant",
    ),
    (
        Evidence::NAME,
        "firstname lastname fullname givenname familyname middlename maidenname surname \
         forename nickname personname realname legalname birthname fname lname cardholder \
         cardholdername accountholder patientname username displayname preferredname contactperson",
    ),
    (
        Evidence::STREET,
        "street streetname streetaddress homeaddress postaladdress mailingaddress \
         billingaddress shippingaddress deliveryaddress residentialaddress addressline \
         addrline streetline housenumber fulladdress",
    ),
    (
        Evidence::BIRTH_DATE,
        "birthdate dateofbirth dob birthday birthdt bornon borndate birthtime bday birthdatetime datebirth birthdatum geburtsdatum \
         geburtstag fechanacimiento datenaissance",
    ),
    (
        Evidence::EMAIL,
        "email emails mail emailaddress mailaddress emailid",
    ),
    (
        Evidence::PHONE,
        "phone phones phonenumber phonenumbers phoneno phonenum telephone telephonenumber \
         telephoneno tel telno telnumber mobilenumber mobileno mobilephone cellphone \
         cellnumber cellno msisdn faxnumber faxno homephone workphone callernumber callerid \
         contactnumber contactno whatsapp phonehome phonework phonemobile phonecell",
    ),
    (
        Evidence::SSN,
        "ssn ssnnumber socialsecurity socialsecuritynumber socialsecurityno socialsecuritynum \
         itin taxpayerid taxpayernumber ustaxid",
    ),
    (
        Evidence::CARD,
        "creditcard creditcardnumber creditcardno creditcardnum debitcard debitcardnumber \
         cardnumber cardno cardnum paymentcard bankcard ccnumber ccnum ccno cardpan \
         primaryaccountnumber",
    ),
    (
        Evidence::IP,
        "ip ips ipaddress ipaddr ipaddresses ipv4 ipv6 remoteaddr remoteaddress",
    ),
    (
        Evidence::MAC,
        "mac macs macaddress macaddr macaddresses bssid hwaddr ethernetaddress \
         bluetoothaddress btaddress bleaddress",
    ),
    (
        Evidence::VERSION,
        "version versions ver firmware fw build release revision rev versionname \
         firmwareversion buildid buildnumber oid kernel bios bootloader baseband sdk patchlevel",
    ),
    (
        Evidence::AGENT,
        "agent useragent ua browser os driver platform distro edition library package plugin \
         runtime sw software hw hardware image images imagetag tag artifact purl",
    ),
    (
        Evidence::HOSTED,
        "host hosts server servers gateway gateways gw peer peers remote source src dst dest \
         destination dns ntp proxy broker endpoint url uri node nodes address addresses addr \
         nameserver nameservers upstream downstream listener",
    ),
    (
        Evidence::COORDINATE,
        "latitude longitude lng lon gpslat gpslong geolat geolong latdeg londeg lngdeg longdeg \
         latitudedeg longitudedeg",
    ),
    (
        Evidence::COORDINATES,
        "coordinates coordinate coords latlng latlon latlong lonlat lnglat geopoint \
         geolocation gpsposition gpslocation bbox geohashcenter",
    ),
    (Evidence::PLACE, "location position geo place loc center"),
    (Evidence::SPOT, "location geo loc"),
    (
        Evidence::SECRET,
        "secretaccesskey awssecretkey awssecret secretkey awssecretaccesskey",
    ),
    (
        Evidence::IDENTIFIER,
        "id ids uuid guid serial serials serialnumber serialno sn imei imsi iccid meid vin \
         traceid spanid requestid hash checksum sku timestamp ts time epoch offset sequence \
         seq uid model pc port pid",
    ),
    (
        Evidence::COUNTER,
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

/// Whole keys.
const WHOLE_KEYS: WordTable = &[
    (Evidence::BARE_NAME, "name names"),
    (Evidence::BARE_ADDRESS, "address addresses addr"),
    (Evidence::BIRTH_DATE, "birth born"),
    (Evidence::PHONE, "mobile fax caller callee handy"),
    // Of a battery, a table or a radio network as often as of a phone.
    (Evidence::DIALLED, "cell cells"),
    (Evidence::CARD, "cc card pan"),
    (Evidence::COORDINATE, "lat long"),
    (Evidence::COORDINATES, "gps"),
    (
        Evidence::VALUE,
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
        "line lines address house number apartment apt unit suite full formatted text street",
    ),
    (Evidence::SECRET, "secret"),
    (Evidence::BARE_ID, "id ids"),
    (
        Evidence::LABEL,
        "type name key label field kind attribute attr property prop param parameter fieldname \
         system url code n resourcetype",
    ),
    (
        Evidence::CONTENT,
        "value values val v data content text stringvalue valuestring intvalue fieldvalue \
         doublevalue numbervalue valuedecimal valueinteger valuedatetime valuedate valuequantity \
         valueaddress valuehumanname valuecontactpoint valueidentifier valuecode vs vd vb",
    ),
    // What is measured stands under these as well.
    (
        Evidence::COUNTER,
        "value values val raw reading readings state num",
    ),
];

/// Single words of a key, wherever they stand.
const WORDS: WordTable = &[
    (
        Evidence::PAYMENT,
        "card cards pan cc creditcard debitcard cardnumber credit debit payment payments pay paid \
         payer billing account acct wallet checkout purchase visa mastercard amex maestro discover \
         jcb unionpay diners",
    ),
    (Evidence::AGENT, "version versions firmware fw"),
    (
        Evidence::STATISTIC,
        "p avg mean median sum stddev p50 p90 p95 p99 read write request req response resp net \
         network db query disk io cpu gpu ping rtt tcp udp http rpc grpc api cache commit fsync \
         flush sync queue wait seek dns tls service svc upstream backend op ops call",
    ),
    (
        Evidence::TYPE,
        "value as is int unsigned signed type data field how too so very not for",
    ),
    (
        Evidence::NOTATION,
        "deg degs degree degrees decimal dec dd wgs rad radians gps gnss start end from to origin \
         destination current last prev previous pickup dropoff north south east west min max center \
         centre mean avg e",
    ),
    (
        Evidence::FILLER,
        "info data profile details record list value raw text iso utc str string",
    ),
    (
        Evidence::PROGRAM,
        "client clients member members worker workers operator sender",
    ),
    (
        Evidence::SOFTWARE,
        "kafka librdkafka rdkafka sarama python java golang nodejs dotnet jvm php flink airflow celery \
         sidekiq worker workers consumer producer client server agent proxy gateway bot service svc \
         app api cron cronjob scheduler controller operator exporter prometheus grafana etcd redis \
         postgres postgresql mysql mongodb rabbitmq mqtt nginx envoy istio kubernetes kube kubelet \
         docker containerd terraform ansible gitlab github curl sdk daemon cli pod vm",
    ),
];

/// What a text says as the last words of a key, besides if it is the whole key, and as one of its words.
#[derive(Clone, Copy, Default)]
pub(super) struct Says {
    pub(super) ending: Evidence,
    whole: Evidence,
    pub(super) word: Evidence,
}

/// The tables, by text.
static BY_TEXT: LazyLock<HashMap<&'static [u8], Says>> = LazyLock::new(|| {
    let mut by_text: HashMap<_, Says> = HashMap::new();
    let mut add = |table: WordTable, place: fn(&mut Says) -> &mut Evidence| {
        for &(evidence, words) in table {
            for word in words.split_ascii_whitespace() {
                *place(by_text.entry(word.as_bytes()).or_default()) |= evidence;
            }
        }
    };
    add(ENDINGS, |says| &mut says.ending);
    add(WHOLE_KEYS, |says| &mut says.whole);
    add(WORDS, |says| &mut says.word);
    by_text
});

impl Says {
    /// What `text` says.
    pub(super) fn of(text: &[u8]) -> Self {
        BY_TEXT.get(text).copied().unwrap_or_default()
    }

    /// What it says at the end of a key, of which it is all if `whole`.
    pub(super) fn at_end(self, whole: bool) -> Evidence {
        if whole {
            self.ending | self.whole
        } else {
            self.ending
        }
    }
}
