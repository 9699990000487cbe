//! What another user of the machine can do to a sensor: nothing of what SECURITY.md says nobody can.

use std::{
    fs::{self, Permissions},
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixListener},
        },
    },
};

use xtask::bench::{Bench, Namespace, Options};

use crate::{
    hooks::assert_nothing_attached,
    sensor::{Config, Sensor, launch, one_sentence},
};

/// `nobody`, who has no rights of its own.
const NOBODY: u32 = 65534;

/// Does something as that user, with no capability, in a namespace.
fn as_nobody<T: Send>(namespace: &Namespace, work: impl FnOnce() -> T + Send) -> T {
    let entered = namespace.enter(|| {
        // SAFETY: the system call, unlike the C library's function, changes this thread alone, which ends after `work`.
        let changed = unsafe {
            libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>())
                | libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY)
                | libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY)
        };
        assert_eq!(changed, 0, "{}", io::Error::last_os_error());
        work()
    });
    entered.unwrap()
}

#[track_caller]
fn denied<T>(what: &str, result: io::Result<T>) {
    let error = result.err().unwrap_or_else(|| panic!("{what} is not denied"));
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{what}: {error}");
}

#[test]
fn another_user_neither_reads_nor_blocks() {
    if !xtask::require_root("another_user_neither_reads_nor_blocks") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let gateway = bench.gateway();
    // Everybody may enter what the state directory lies in, and it was open to all before.
    let open = Permissions::from_mode(0o755);
    fs::set_permissions(bench.dir(), open.clone()).unwrap();
    let state = bench.dir().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, open).unwrap();
    let config = bench.dir().join("etc");
    fs::create_dir(&config).unwrap();
    let more = format!("state_dir: {}\nledger: ledger.db\n", state.display());
    let text = Config::default().text().replace("state_dir: state\n", "") + &more;
    let path = config.join("config.yaml");
    fs::write(&path, text).unwrap();

    // A name in the abstract namespace is anybody's; it stops no sensor.
    let name = SocketAddr::from_abstract_name("labgate").unwrap();
    let socket = as_nobody(gateway, || UnixListener::bind_addr(&name)).unwrap();
    let sensor = Sensor::ready(gateway, crate::sensor::launch_file(gateway, &path));
    sensor.settled();

    let lock = format!("/run/labgate/net-{}.lock", gateway.inode().unwrap());
    assert!(fs::metadata(&lock).is_ok());
    as_nobody(gateway, || {
        denied("the lock", fs::File::open(&lock));
        denied("the lock's removal", fs::remove_file(&lock));
        denied("another lock", fs::write("/run/labgate/other", ""));
        denied("the state directory", fs::read_dir(&state));
        denied("a file in it", fs::write(state.join("devices.json"), "{}"));
        for suffix in ["", "-wal", "-shm", ".lock"] {
            denied(suffix, fs::File::open(state.join(format!("ledger.db{suffix}"))));
        }
        denied("the pins", fs::read_dir("/sys/fs/bpf/labgate"));
    });

    // Nor does it hide a sensor from another.
    drop(socket);
    let second = Config { more: "listen: 127.0.0.1:9470".to_owned(), ..Config::default() };
    let said = one_sentence(launch(&bench, gateway, &second));
    assert!(said.contains("another labgate runs"), "{said}");
    let log = sensor.stop();
    assert!(log.contains("other users could enter the state directory"), "{log}");
    assert!(fs::metadata(&lock).is_err(), "a lock is left");
    assert_nothing_attached(gateway, &["lan0", "lan1"]);
}

/// The interfaces are two sensors', the ledger can only be one's.
#[test]
fn two_namespaces_do_not_share_a_ledger() {
    if !xtask::require_root("two_namespaces_do_not_share_a_ledger") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let more = "ledger: shared.db".to_owned();
    let first = Sensor::start(&bench, &Config { more: more.clone(), ..Config::default() });
    let interfaces = vec!["{ name: wan0 }".to_owned()];
    let other = Config { interfaces, more, ..Config::default() };
    let said = one_sentence(launch(&bench, bench.internet(), &other));
    assert!(said.contains("shared.db") && said.contains("another process has it open"), "{said}");
    let purge = |namespace: &Namespace| {
        let ledger = bench.dir().join("state/shared.db");
        let ledger = ledger.to_str().unwrap();
        let argv =
            [crate::sensor::LABGATE, "ledger", "purge", "--device", "galaxy", "--ledger", ledger];
        namespace.run(&argv).unwrap_err().to_string()
    };
    let said = purge(bench.internet());
    assert!(said.contains("another process has it open"), "{said}");
    first.stop();
    let said = purge(bench.internet());
    assert!(!said.contains("another process has it open"), "{said}");
}
