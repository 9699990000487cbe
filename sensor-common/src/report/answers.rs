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
    /// Every device that was seen or is configured, by name.
    pub devices: Vec<DeviceSummary>,
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
    /// Rows that match.
    pub matched: u64,
    /// True where more rows match than `limit` lets through; those with the fewest bytes are missing.
    pub truncated: bool,
    /// The rows, by bytes, most first.
    pub destinations: Vec<DestinationRow>,
    /// Further rows, which may hold more of what was asked for: they were counted with less detail than that, because
    /// a bound was reached, such as `limits.destinations_per_device`. By bytes, most first, and `limit` of them at most.
    #[serde(default)]
    pub possible: Vec<DestinationRow>,
    /// The attribution that the licence of the geo data asks for.
    pub attribution: String,
}

/// A destination and whose it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DestinationRow {
    /// Name of the device.
    pub device: String,
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
