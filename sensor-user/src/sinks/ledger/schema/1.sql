-- Labels and sums of the common JSON form. See docs/LEDGER.md.

-- Facts about the file as a whole.
CREATE TABLE fact (
    name TEXT PRIMARY KEY,
    value ANY
) STRICT, WITHOUT ROWID;
-- What the sensor's state had counted before this file was begun, and so is not in it.
INSERT INTO fact VALUES ('packets_before', 0), ('bytes_before', 0);

-- Flow tables of the kernel side, and the last epoch of each that is in here. An epoch is committed
-- exactly if it is no later than that. A capture takes the place of a table; see captures.rs.
CREATE TABLE flow_table (
    id BLOB PRIMARY KEY,        -- 16 random octets, made with the table
    boot TEXT NOT NULL,         -- /proc/sys/kernel/random/boot_id
    epoch INTEGER NOT NULL,
    ended INTEGER NOT NULL      -- that epoch, Unix ns
) STRICT, WITHOUT ROWID;

-- Epochs that are committed and not yet folded into the tables below.
CREATE TABLE epoch (
    sequence INTEGER PRIMARY KEY,
    record BLOB NOT NULL        -- see journal.rs
) STRICT;

CREATE TABLE device (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    macs TEXT NOT NULL,         -- separated by commas
    vendor TEXT NOT NULL,
    device_group TEXT NOT NULL,
    kind TEXT NOT NULL,         -- configured, unknown, multicast, pool, purged
    metrics BLOB                -- what its Prometheus series go on from; see saved.rs
) STRICT;
CREATE INDEX device_by_macs ON device (macs, kind);

-- Geo databases that rows were attributed with.
CREATE TABLE geo_database (
    id INTEGER PRIMARY KEY,
    role TEXT NOT NULL,         -- country, operators
    kind TEXT NOT NULL,
    build_time INTEGER NOT NULL,
    source TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    UNIQUE (role, sha256)
) STRICT;

-- Attributions, as they were when the packets were counted.
CREATE TABLE place (
    id INTEGER PRIMARY KEY,
    country TEXT NOT NULL,
    asn INTEGER NOT NULL,
    operator TEXT NOT NULL,
    prefix TEXT NOT NULL,
    network TEXT NOT NULL,
    country_database INTEGER NOT NULL,
    operator_database INTEGER NOT NULL,
    UNIQUE (country, asn, operator, prefix, network, country_database, operator_database)
) STRICT;

-- A device's far ends, with everything that was ever counted for each.
CREATE TABLE flow (
    id INTEGER PRIMARY KEY,
    device INTEGER NOT NULL REFERENCES device,
    place INTEGER NOT NULL REFERENCES place,
    protocol TEXT NOT NULL,
    detailed INTEGER NOT NULL,  -- 0: address, port and VLAN were not kept
    address TEXT NOT NULL,
    port INTEGER NOT NULL,
    vlan INTEGER NOT NULL,      -- -1: untagged
    tx_packets INTEGER NOT NULL, tx_bytes INTEGER NOT NULL, tx_payload INTEGER NOT NULL,
    rx_packets INTEGER NOT NULL, rx_bytes INTEGER NOT NULL, rx_payload INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX flow_key
    ON flow (device, place, protocol, detailed, address, port, vlan);

-- The same by the minute in which the epoch ended. first and last are ms after the start.
CREATE TABLE minute (
    device INTEGER NOT NULL,
    start INTEGER NOT NULL,
    flow INTEGER NOT NULL,
    tx_packets INTEGER NOT NULL, tx_bytes INTEGER NOT NULL, tx_payload INTEGER NOT NULL,
    rx_packets INTEGER NOT NULL, rx_bytes INTEGER NOT NULL, rx_payload INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (device, start, flow)
) STRICT, WITHOUT ROWID;

-- And by the hour, once the minutes are older than their retention.
CREATE TABLE hour (
    device INTEGER NOT NULL,
    start INTEGER NOT NULL,
    flow INTEGER NOT NULL,
    tx_packets INTEGER NOT NULL, tx_bytes INTEGER NOT NULL, tx_payload INTEGER NOT NULL,
    rx_packets INTEGER NOT NULL, rx_bytes INTEGER NOT NULL, rx_payload INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (device, start, flow)
) STRICT, WITHOUT ROWID;

-- The balance by minute, later by hour (length is 60 or 3600 s). Its sum is the balance of all time.
CREATE TABLE balance (
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    epochs INTEGER NOT NULL,
    open_epochs INTEGER NOT NULL,
    seen_packets INTEGER NOT NULL, seen_bytes INTEGER NOT NULL,
    attributed_packets INTEGER NOT NULL, attributed_bytes INTEGER NOT NULL,
    coarse_packets INTEGER NOT NULL, coarse_bytes INTEGER NOT NULL,
    overflow_packets INTEGER NOT NULL, overflow_bytes INTEGER NOT NULL,
    unparsed_packets INTEGER NOT NULL, unparsed_bytes INTEGER NOT NULL,
    PRIMARY KEY (start, length)
) STRICT, WITHOUT ROWID;

-- Events of the kernel side off its main path, by minute, later by hour.
CREATE TABLE event (
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    event TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (start, length, event)
) STRICT, WITHOUT ROWID;

-- The interfaces' own counters while they were watched, by minute, later by hour.
CREATE TABLE interface (
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    name TEXT NOT NULL,
    rx_packets INTEGER NOT NULL, rx_bytes INTEGER NOT NULL,
    tx_packets INTEGER NOT NULL, tx_bytes INTEGER NOT NULL,
    dropped INTEGER NOT NULL,
    PRIMARY KEY (start, length, name)
) STRICT, WITHOUT ROWID;

-- From when to when each interface was watched, and how.
CREATE TABLE coverage (
    interface TEXT NOT NULL,
    began INTEGER NOT NULL,
    ended INTEGER,              -- NULL while it lasts
    reason TEXT NOT NULL,       -- why it ended
    link TEXT NOT NULL,
    ingress TEXT NOT NULL,
    egress TEXT NOT NULL,
    fallback_reason TEXT NOT NULL,
    boot TEXT NOT NULL,
    PRIMARY KEY (interface, began)
) STRICT, WITHOUT ROWID;

-- The counters of the links that were watched, since each link was made, as of the last commit.
CREATE TABLE link (
    interface TEXT PRIMARY KEY,
    ifindex INTEGER NOT NULL,
    boot TEXT NOT NULL,
    rx_packets INTEGER NOT NULL, rx_bytes INTEGER NOT NULL,
    tx_packets INTEGER NOT NULL, tx_bytes INTEGER NOT NULL,
    dropped INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE alert (
    id INTEGER PRIMARY KEY,
    rule TEXT NOT NULL,
    device INTEGER NOT NULL REFERENCES device,
    country TEXT NOT NULL,
    prefix TEXT NOT NULL,
    asn INTEGER NOT NULL,
    operator TEXT NOT NULL,
    since INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    packets INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
