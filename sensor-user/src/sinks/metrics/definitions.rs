//! Every metric family of the sensor, with its help text.

use super::writer::Kind;

/// What a family is called and what it means.
#[derive(Debug, Clone, Copy)]
pub(super) struct Definition {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

macro_rules! definitions {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $constant: &Definition = &Definition {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// All of them.
        #[cfg(test)]
        pub(super) const ALL: &[&Definition] = &[$($constant),*];
    };
}

definitions! {
    DEVICE_PACKETS = Counter "labgate_device_packets_total"
        ["device", "direction", "country", "asn"]
        "Packets a device sent (tx) or received (rx), by country and autonomous system of the far end. country: ISO 3166, ZZ without an entry, lower-case class of a special-purpose range, empty without an IP address, other beyond a bound. asn: 0 for none, other beyond a bound, expired and a time for the sum of those idle until then.";
    DEVICE_BYTES = Counter "labgate_device_bytes_total"
        ["device", "direction", "country", "asn"]
        "Bytes of whole Ethernet frames without FCS; labels as in labgate_device_packets_total.";
    DEVICE_PAYLOAD = Counter "labgate_device_payload_bytes_total"
        ["device", "direction", "country", "asn"]
        "Bytes after the transport header; labels as in labgate_device_packets_total.";
    PREFIX_PACKETS = Counter "labgate_device_prefix_packets_total"
        ["device", "direction", "prefix"]
        "Packets by far prefix. A device's largest new prefixes get a label and keep it while in use, the rest are other; expired and a time is the sum of those idle until then; empty without an IP address.";
    PREFIX_BYTES = Counter "labgate_device_prefix_bytes_total"
        ["device", "direction", "prefix"]
        "Bytes of whole frames by far prefix; labels as in labgate_device_prefix_packets_total.";
    COUNTERS_CREATED = Gauge "labgate_device_counters_created_timestamp_seconds"
        ["device", "country", "asn"]
        "When the counters with these labels began at 0, by the sensor's clock. It holds over restarts and for a device that is renamed; what began after labgate_last_epoch_timestamp_seconds of a scrape is new to it. None for what expired.";
    PREFIX_COUNTERS_CREATED = Gauge "labgate_device_prefix_counters_created_timestamp_seconds"
        ["device", "prefix"]
        "When the counters with these labels began at 0, as labgate_device_counters_created_timestamp_seconds; 0 before their first packet.";
    FOLDED_PACKETS = Counter "labgate_device_folded_packets_total"
        ["device", "detail"]
        "Packets that are counted without a detail, because a bound was reached: address (with port) and place (prefix, operator and protocol) in the report; operator, country and prefix (label other here), device (counted for the pool here).";
    DEVICE_INFO = Gauge "labgate_device_info"
        ["device", "mac", "vendor", "group", "random_mac", "kind", "policy"]
        "Always 1. One series per device. policy: the group whose `allowed_countries` hold for it, empty where none do.";
    DEVICES = Gauge "labgate_devices"
        ["kind"]
        "Devices that are told apart. kind: configured (with those that were adopted), unknown.";
    UNKNOWN_LIMIT = Gauge "labgate_unknown_devices_limit"
        []
        "Most unknown devices that are told apart; those beyond share one pool.";
    POOLED_PACKETS = Counter "labgate_unknown_devices_pooled_packets_total"
        ["direction"]
        "Packets of unknown devices beyond the bound, counted for their pool alone; without those of devices that were told apart when they came.";
    OPERATOR_INFO = Gauge "labgate_operator_info"
        ["asn", "operator"]
        "Always 1. Name of an autonomous system.";
    COUNTRY_FIRST_SEEN = Gauge "labgate_device_country_first_seen_timestamp_seconds"
        ["device", "country"]
        "Time of the first packet a device exchanged with a country.";
    COUNTRY_LAST_SEEN = Gauge "labgate_device_country_last_seen_timestamp_seconds"
        ["device", "country"]
        "End of the epoch of the last packet a device exchanged with a country.";
    ALERTS = Counter "labgate_alerts_total"
        ["rule", "severity"]
        "Breaches of the policy, each raised once per device and country or watched prefix.";
    ALERTS_SHARED = Gauge "labgate_alerts_pooled"
        []
        "Breaches of devices that nobody named which the series of alerts tell under the pool's name, because such devices are not told apart or their breaches would take more than half of all series; the API has each.";
    ALERT_FIRST_SEEN = Gauge "labgate_alert_first_seen_timestamp_seconds"
        ["rule", "severity", "device", "country", "prefix", "asn"]
        "Time of the first packet of a breach, with the far end of that packet. One series per breach.";
    ALERT_LAST_SEEN = Gauge "labgate_alert_last_seen_timestamp_seconds"
        ["rule", "severity", "device", "country", "prefix", "asn"]
        "End of the epoch of the last packet of a breach; labels as in labgate_alert_first_seen_timestamp_seconds.";
    OUTCOMES = Counter "labgate_outcomes_total"
        ["outcome"]
        "Events of the kernel programs off their main path.";
    SEEN_PACKETS = Counter "labgate_seen_packets_total"
        []
        "Packets that entered the kernel programs; equals the sum of labgate_level_packets_total.";
    SEEN_BYTES = Counter "labgate_seen_bytes_total"
        []
        "Bytes that entered the kernel programs; equals the sum of labgate_level_bytes_total.";
    LEVEL_PACKETS = Counter "labgate_level_packets_total"
        ["level"]
        "Packets by the detail they were counted with: flow (full), coarse (/24 or /48, no port), overflow (device alone), unparsed (malformed).";
    LEVEL_BYTES = Counter "labgate_level_bytes_total"
        ["level"]
        "Bytes by the detail they were counted with.";
    EPOCHS = Counter "labgate_epochs_total"
        []
        "Epochs drained.";
    OPEN_EPOCHS = Counter "labgate_books_open_epochs_total"
        []
        "Epochs whose books did not balance: packets were seen but not counted anywhere, or the reverse. Must stay 0.";
    LAST_EPOCH = Gauge "labgate_last_epoch_timestamp_seconds"
        []
        "End of the last epoch drained.";
    STAGE_DURATION = Summary "labgate_epoch_stage_duration_seconds"
        ["stage"]
        "Time the stages of an epoch took: flip, drain, join, apply.";
    STAGE_LAST_DURATION = Gauge "labgate_epoch_stage_last_duration_seconds"
        ["stage"]
        "Time the stages of the last epoch took.";
    TABLE_ENTRIES = Gauge "labgate_table_entries"
        ["table"]
        "Entries of a kernel table that the last epoch took. flow_fullest_cpu: of the CPU that took most slots, as no CPU can use another's.";
    TABLE_CAPACITY = Gauge "labgate_table_capacity_entries"
        ["table"]
        "Entries that a kernel table has; in the coarse level two epochs can be under way at a time.";
    SERIES = Gauge "labgate_series"
        []
        "Series that these metrics hold or have set aside.";
    SERIES_LIMIT = Gauge "labgate_series_limit"
        []
        "Series that these metrics may have, all together.";
    EXPIRED = Counter "labgate_expired_total"
        ["what"]
        "What was given up here after it had been idle: label_set (country and operator of a device), prefix, device. Its counts are in the series with the label expired.";
    SCRAPE_DURATION = Summary "labgate_scrape_duration_seconds"
        []
        "Time it took to render these metrics, until the last scrape.";
    SCRAPE_LAST_DURATION = Gauge "labgate_scrape_last_duration_seconds"
        []
        "Time it took to render these metrics at the last scrape.";
    SCRAPE_LAST_SIZE = Gauge "labgate_scrape_last_size_bytes"
        []
        "Size of these metrics at the last scrape.";
    INTERFACE_PACKETS = Counter "labgate_interface_packets_total"
        ["interface", "direction"]
        "Packets on the interface's own counters while the sensor watched it. tx: sent by the devices, received by the interface.";
    INTERFACE_BYTES = Counter "labgate_interface_bytes_total"
        ["interface", "direction"]
        "Bytes on the interface's own counters while the sensor watched it, as its driver counts them.";
    INTERFACE_DROPPED = Counter "labgate_interface_dropped_packets_total"
        ["interface"]
        "Packets that the interface dropped, both directions, while the sensor watched it.";
    INTERFACE_WATCHED = Gauge "labgate_interface_watched"
        ["interface"]
        "Whether the sensor watches the interface (1) or can't now (0).";
    INTERFACE_UP = Gauge "labgate_interface_up"
        ["interface"]
        "Whether the interface is switched on.";
    INTERFACE_MTU = Gauge "labgate_interface_mtu_bytes"
        ["interface"]
        "Largest packet of the interface, without the Ethernet header.";
    INTERFACE_COVERED = Counter "labgate_interface_covered_seconds_total"
        ["interface"]
        "For how long the sensor watched the interface.";
    INTERFACE_DETACHMENTS = Counter "labgate_interface_detachments_total"
        ["interface", "reason"]
        "How often watching ended: gone, renamed, detached (by somebody else), preceded (by another program), unseen (counted by the interface and not by the programs), covered (by a bridge, bond or parent), changed, removed (by the configuration), stopped.";
    ATTACH_INFO = Gauge "labgate_attach_info"
        ["interface", "ingress", "egress", "fallback_reason"]
        "Always 1. Where the sensor is attached, how, and why not by native XDP where that was wanted.";
    DATABASE_INFO = Gauge "labgate_database_info"
        ["database", "type", "build_time", "source", "sha256"]
        "Always 1. A geo database in use, with the hash of its decompressed file.";
    DATABASE_BUILD_TIME = Gauge "labgate_database_build_timestamp_seconds"
        ["database"]
        "When a geo database in use was built.";
    DATABASE_STALE = Gauge "labgate_database_stale"
        ["database"]
        "Whether a geo database in use is older than `max_age` in the configuration.";
    NETWORK_INFO = Gauge "labgate_network_info"
        ["network", "prefix"]
        "Always 1. A network that the configuration names; `prefix` joins it with the prefixes' counters.";
    RELOADS = Counter "labgate_reloads_total"
        ["what", "outcome"]
        "Attempts to read the configuration, the databases, the adopted devices or the web configuration anew while the sensor runs; after one that failed, what was there stays in use.";
    RELOAD_LAST_SUCCESSFUL = Gauge "labgate_reload_last_successful"
        ["what"]
        "Whether the last attempt succeeded (1) or failed (0); 1 before the first.";
    RELOAD_LAST_SUCCESS = Gauge "labgate_reload_last_success_timestamp_seconds"
        ["what"]
        "When the last attempt succeeded.";
    LEDGER_WRITABLE = Gauge "labgate_ledger_writable"
        []
        "Whether the ledger can be written (1) or not (0), while counting goes on and the kernel keeps what it lacks.";
    LEDGER_COMMITS = Counter "labgate_ledger_commits_total"
        []
        "Epochs that were committed to the ledger; one without a packet is not.";
    LEDGER_FAILURES = Counter "labgate_ledger_failures_total"
        ["reason"]
        "Attempts to write the ledger that failed, and were repeated: full, read_only, damaged, busy, slow, failed.";
    LEDGER_LAST_COMMIT = Gauge "labgate_ledger_last_commit_timestamp_seconds"
        []
        "End of the last epoch that was committed to the ledger.";
    LEDGER_SIZE = Gauge "labgate_ledger_size_bytes"
        []
        "Size of the ledger with its write-ahead log.";
    BUILD_INFO = Gauge "labgate_build_info"
        ["version"]
        "Always 1. The version that runs.";
}
