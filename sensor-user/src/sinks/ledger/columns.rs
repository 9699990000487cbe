//! Columns that are added up.

/// What a row of `flow`, `minute` or `hour` counts.
pub(super) const SUMS: [&str; 6] =
    ["tx_packets", "tx_bytes", "tx_payload", "rx_packets", "rx_bytes", "rx_payload"];

/// The part of an upsert that adds what is new.
pub(super) fn adding(columns: &[&str]) -> String {
    let adds = columns.iter().map(|column| format!("{column} = {column} + excluded.{column}"));
    adds.collect::<Vec<_>>().join(", ")
}
