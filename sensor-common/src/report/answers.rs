//! What the API's paths answer besides the whole report: parts of the same form, and errors.

use serde::{Deserialize, Serialize};

use super::{Alert, Books, Destination, Interface};

/// `/api/v1/devices`: the devices with totals in place of their destinations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeviceList {
    /// Version of this form.
    pub version: u32,
    /// When this state was taken (end of the last committed epoch).
    pub time: String,
    /// Every device that was seen or is configured, by name; of a period, every one that was active in it.
    pub devices: Vec<DeviceSummary>,
    /// The period that the devices' sums are of; missing where they are of everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(nullable = false))]
    pub period: Option<Period>,
    /// The attribution that the licence of the geo data asks for.
    pub attribution: String,
}

/// A device and what it has exchanged with everyone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DeviceSummary {
    /// Name from the configuration; an unknown device is named by its MAC address.
    pub name: String,
    /// The MAC address, lower-case hex with colons; several are separated by a comma.
    pub mac: String,
    /// Vendor by OUI; empty where unknown or where the MAC address is locally administered.
    pub vendor: String,
    /// True where a MAC address is locally administered, as phones' random addresses are.
    pub random_mac: bool,
    /// Group from the configuration; empty for an unknown device.
    pub group: String,
    /// IP addresses that it has on the LAN now, as in the report.
    pub addresses: Vec<String>,
    /// Host names that it gave by DHCP, as in the report.
    pub host_names: Vec<String>,
    /// The countries and classes of special-purpose ranges it was in contact with.
    pub countries: Vec<String>,
    /// Its rows of `/api/v1/destinations`, without address detail.
    pub destinations: u64,
    /// Alerts that it has raised.
    pub alerts: u64,
    /// Packets the device sent.
    pub tx_packets: u64,
    /// Bytes the device sent.
    pub tx_bytes: u64,
    /// Packets the device received.
    pub rx_packets: u64,
    /// Bytes the device received.
    pub rx_bytes: u64,
    /// First packet, to the kernel's clock; missing before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(nullable = false))]
    pub first_seen: Option<String>,
    /// Last packet, to the epoch; missing before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(nullable = false))]
    pub last_seen: Option<String>,
}

/// `/api/v1/destinations`: the destinations of all devices, one row each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DestinationList {
    /// Version of this form.
    pub version: u32,
    /// When this state was taken (end of the last committed epoch).
    pub time: String,
    /// The period that the rows are of; missing where they are of everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(nullable = false))]
    pub period: Option<Period>,
    /// Rows that match.
    pub matched: u64,
    /// True where more rows match than `limit` lets through; those with the fewest bytes are missing.
    pub truncated: bool,
    /// What all rows that match count, also those that are missing.
    pub total: Total,
    /// The rows, by bytes, most first.
    pub destinations: Vec<DestinationRow>,
    /// Further rows, which may hold more of what was asked for: they were counted with less detail than that, because
    /// a bound was reached, such as `limits.destinations_per_device`. By bytes, most first, and `limit` of them at most.
    #[serde(default)]
    pub possible: Vec<DestinationRow>,
    /// The attribution that the licence of the geo data asks for.
    pub attribution: String,
}

/// What some rows count together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Total {
    /// Packets the devices sent.
    pub tx_packets: u64,
    /// Bytes the devices sent.
    pub tx_bytes: u64,
    /// Packets the devices received.
    pub rx_packets: u64,
    /// Bytes the devices received.
    pub rx_bytes: u64,
}

/// A period, from a moment until right before another, and how well the ledger tells it apart.
///
/// An epoch counts in the period in which it ended. The ledger keeps the epochs of the last minute or so one by
/// one, and older ones added up by minutes and hours, for each far end. Such a sum is never split: it counts in
/// the period in which the last packet of it was. So adjacent periods always add up to the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Period {
    /// Its beginning, as it was asked for; without one, the first packet that is counted here.
    pub from: String,
    /// Its end, as it was asked for; without one, the end of the last epoch that the ledger has.
    pub until: String,
    /// Whether no sum that matches crosses its beginning or end, so that the rows are of this period exactly.
    pub exact: bool,
    /// The narrowest period around it that no sum crosses: its minutes, or hours, as a whole.
    pub whole_from: String,
    /// The end of that.
    pub whole_until: String,
    /// Packets of sums that match, are counted here, and began before the period did: some of them may have been
    /// before it.
    pub earlier_packets: u64,
    /// Packets of sums that match, began before the end of the period and ended after it: they are not counted here,
    /// and some of them may have been in it.
    pub later_packets: u64,
    /// From when on the ledger still has destinations; empty where it has them all. Older ones are only part of the
    /// sums of all time.
    pub kept_from: String,
}

/// A destination and whose it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DestinationRow {
    /// Name of the device.
    pub device: String,
    /// Its MAC address, as in the report.
    pub mac: String,
    /// Its group; empty for none.
    pub group: String,
    /// Host names that it gave by DHCP, as in the report.
    pub host_names: Vec<String>,
    /// The far end, as in the report.
    #[serde(flatten)]
    pub destination: Destination,
}

/// `/api/v1/alerts`: breaches of the bench's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AlertList {
    /// Version of this form.
    pub version: u32,
    /// When this state was taken (end of the last committed epoch).
    pub time: String,
    /// Alerts that match.
    pub matched: u64,
    /// True where more alerts match than `limit` lets through; the oldest are missing.
    pub truncated: bool,
    /// The alerts, oldest first.
    pub alerts: Vec<Alert>,
    /// The attribution that the licence of the geo data asks for.
    pub attribution: String,
}

/// `/api/v1/books`: whether everything that passed the hooks is accounted for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BooksAnswer {
    /// Version of this form.
    pub version: u32,
    /// When this state was taken (end of the last committed epoch).
    pub time: String,
    /// The balance of everything that passed the hooks.
    pub books: Books,
    /// Where the sensor is attached, and how.
    pub interfaces: Vec<Interface>,
}

/// Every answer with a status of 400 or more.
///
/// Not RFC 9457 (`application/problem+json`): that identifies a problem by a URI, and LabGate has no
/// domain to make any under. With `about:blank` for all of them, what a program goes by would be an
/// extension anyway; so it is a code, and the object says which form it has, as all answers do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ErrorAnswer {
    /// Version of this form.
    pub version: u32,
    /// What is wrong.
    pub error: ErrorDetail,
}

/// What is wrong with a request, or with the sensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ErrorDetail {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what is wrong, where, and what to do. May change at any time.
    pub message: String,
    /// The query parameter that is to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(nullable = false))]
    pub parameter: Option<String>,
}

/// What kind of error it is. A code never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum ErrorCode {
    /// The request is not well-formed: its percent-encoding, or a body where none belongs.
    MalformedRequest,
    /// The path and its query are too long.
    TooLong,
    /// No such path.
    NotFound,
    /// The path can only be read.
    MethodNotAllowed,
    /// The path does not take this parameter.
    UnknownParameter,
    /// A parameter is given more than once.
    RepeatedParameter,
    /// A parameter has a value that it can't have.
    BadParameter,
    /// No device has this name.
    UnknownDevice,
    /// The listener is asked for by a name that is not its own.
    Misdirected,
    /// Neither a device nor a rule is of this group.
    UnknownGroup,
    /// A user name and a password are needed.
    Unauthorized,
    /// There were too many requests.
    TooManyRequests,
    /// No epoch has ended yet, or none for too long; or an interface is not watched.
    NotReady,
    /// Other clients still read large answers.
    Busy,
    /// The sensor is stopping.
    Stopping,
    /// A mistake of the sensor's own.
    Internal,
}
