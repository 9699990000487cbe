//! The bench itself: it carries traffic, is closed to the outside, and leaves nothing behind.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use xtask::bench::{
    Bench, Options,
    plan::{ACCOUNT, CLOUD_SG, GERMANY, LAN0, LAN1, RESOLVER},
    when_silent,
};

/// Set in the process that plays the owner which gets killed.
const OWNER: &str = "LABGATE_TEST_BENCH_OWNER";

fn serving_bench() -> Bench {
    let mut bench = Bench::new(&Options::default()).expect("bench");
    bench.serve().expect("services");
    bench
}

/// Inodes of the bench's namespaces.
fn inodes(bench: &Bench) -> BTreeSet<u64> {
    bench.namespaces().map(|namespace| namespace.inode().expect("inode")).collect()
}

/// Processes, threads included, that are in one of these network namespaces, or hold one open.
fn users_of(namespaces: &BTreeSet<u64>) -> Vec<PathBuf> {
    let tasks = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| fs::read_dir(entry.path().join("task")).ok())
        .flat_map(|tasks| tasks.flatten().map(|task| task.path()));
    let mut users = Vec::new();
    for task in tasks {
        let links = fs::read_dir(task.join("fd")).into_iter().flatten().flatten();
        for link in links.map(|fd| fd.path()).chain([task.join("ns/net")]) {
            let target = fs::read_link(&link).unwrap_or_default();
            let inode = target
                .to_str()
                .and_then(|text| text.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok());
            if inode.is_some_and(|inode| namespaces.contains(&inode)) {
                users.push(link);
            }
        }
    }
    users
}

/// The kernel ends killed processes, and then their namespaces, in its own time.
fn assert_vanish(namespaces: &BTreeSet<u64>) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let users = users_of(namespaces);
        if users.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still there: {users:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn host_links() -> String {
    let output = Command::new("ip").args(["-o", "link"]).output().expect("ip");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn carries_web_and_dns_over_both_families() {
    if !xtask::require_root("carries_web_and_dns_over_both_families") {
        return;
    }
    let bench = serving_bench();
    let sg6 = CLOUD_SG.ipv6.expect("Singapore has IPv6");
    for device in bench.devices() {
        let namespace = &device.namespace;
        for url in [format!("http://{}/", CLOUD_SG.ipv4), format!("http://[{sg6}]/")] {
            let page = namespace.run(&["curl", "-qsS", "--max-time", "5", &url]).expect("curl");
            assert!(page.contains("LabGate"), "{page}");
        }
        for resolver in [device.spec.lan.gateway4, device.spec.lan.gateway6, RESOLVER] {
            let answer = namespace
                .run(&["dig", "-r", "+short", &format!("@{resolver}"), "A", ACCOUNT.name])
                .expect("dig");
            assert_eq!(answer.trim(), ACCOUNT.ipv4, "asked {resolver}");
        }
        let answer = namespace
            .run(&["dig", "-r", "+short", &format!("@{}", LAN0.gateway4), "AAAA", CLOUD_SG.name])
            .expect("dig");
        assert_eq!(answer.trim(), sg6);
    }

    let phone = bench.device("redmi-1s");
    let url = format!("http://{}/cgi-bin/upload", ACCOUNT.ipv4);
    let answer = phone.run(&["curl", "-qsS", "--data", "imei=1", &url]).expect("upload");
    assert_eq!(answer.trim(), "6 octets received");
    let de6 = GERMANY.ipv6.expect("Germany has IPv6");
    for host in [GERMANY.ipv4, &format!("[{de6}]")] {
        let page = phone.run(&["curl", "-qksS", &format!("https://{host}/")]).expect("TLS");
        assert!(page.contains("s_server"), "{page}");
    }
    for host in [GERMANY.ipv4, de6] {
        phone.run(&["iperf3", "-c", host, "-n", "1M", "-R"]).expect("iperf3");
    }
}

#[test]
fn has_no_way_out() {
    if !xtask::require_root("has_no_way_out") {
        return;
    }
    let bench = Bench::new(&Options::default()).expect("bench");
    // A listener on every address of the host; its ports must not be reachable from inside.
    let listener = TcpListener::bind("[::]:0").expect("listen");
    let port = listener.local_addr().expect("address").port();
    TcpStream::connect(("127.0.0.1", port)).expect("the host reaches its own listener");
    let output = Command::new("hostname").arg("-I").output().expect("hostname");
    let host = String::from_utf8(output.stdout).expect("text");
    for address in host.split_whitespace().chain(["127.0.0.1", "::1", "9.9.9.9"]) {
        for namespace in bench.namespaces() {
            let target = (address, port);
            let connected = namespace
                .enter(|| {
                    let address = std::net::ToSocketAddrs::to_socket_addrs(&target)
                        .expect("an address")
                        .next()
                        .expect("one address");
                    TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok()
                })
                .expect("enter");
            assert!(!connected, "{} reaches {address}", namespace.name());
        }
    }
    let routes = bench.internet().run(&["ip", "route"]).expect("routes")
        + &bench.internet().run(&["ip", "-6", "route"]).expect("routes");
    assert!(!routes.contains("default"), "{routes}");
}

#[test]
fn counters_are_of_a_time_when_nothing_moved() {
    if !xtask::require_root("counters_are_of_a_time_when_nothing_moved") {
        return;
    }
    let bench = Bench::new(&Options::default()).expect("bench");
    let mut calls = 0;
    let settle = || {
        calls += 1;
        if calls < 3 {
            bench.device("galaxy").run(&["ping", "-c1", "-W5", LAN0.gateway4])?;
        }
        Ok(calls)
    };
    let links = [(bench.gateway(), "lan1"), (bench.device("galaxy"), "eth0")];
    let (settled, [_, galaxy]) = when_silent(links, settle).expect("silence");
    assert!(settled >= 3, "two pings passed unseen: {settled}");
    assert!(galaxy.tx_packets >= 2, "{galaxy:?}");
}

#[test]
fn a_link_that_is_down_has_counted_nothing() {
    if !xtask::require_root("a_link_that_is_down_has_counted_nothing") {
        return;
    }
    let options = Options { lan_offloads: false, lan_up: false };
    let bench = Bench::new(&options).expect("bench");
    // Long enough for the kernel's unasked multicast at link-up.
    thread::sleep(Duration::from_secs(1));
    let counters = |interface: &str| {
        let text = bench.gateway().run(&["ip", "-s", "-j", "link", "show", interface]).expect("ip");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let packets = |side: &str| json[0]["stats64"][side]["packets"].as_u64().expect("count");
        (packets("rx"), packets("tx"))
    };
    assert_eq!((counters("lan0"), counters("lan1")), ((0, 0), (0, 0)));
    bench.lan_up().expect("up");
    let ping = |name: &str, address| {
        bench.device(name).run(&["ping", "-c1", "-W5", address]).expect("ping");
    };
    ping("galaxy", LAN0.gateway6);
    ping("smart-plug", LAN1.gateway4);
    let (rx, tx) = counters("lan0");
    assert!(rx >= 2 && tx >= 2, "lan0 counts {rx} {tx}");
    let features = bench.device("galaxy").run(&["ethtool", "-k", "eth0"]).expect("ethtool");
    for feature in ["tcp-segmentation", "generic-segmentation", "generic-receive"] {
        assert!(features.contains(&format!("{feature}-offload: off")), "{features}");
    }
}

#[test]
fn two_benches_live_side_by_side() {
    if !xtask::require_root("two_benches_live_side_by_side") {
        return;
    }
    let (first, second) = (serving_bench(), serving_bench());
    assert!(inodes(&first).is_disjoint(&inodes(&second)));
    let url = format!("http://{}/", GERMANY.ipv4);
    let get =
        |bench: &Bench| bench.device("iphone").run(&["curl", "-qsS", "--max-time", "5", &url]);
    get(&first).expect("first");
    get(&second).expect("second");
    drop(first);
    get(&second).expect("the second outlives the first");
}

#[test]
fn drop_leaves_nothing_also_when_a_test_panics() {
    if !xtask::require_root("drop_leaves_nothing_also_when_a_test_panics") {
        return;
    }
    let links = host_links();
    let bench = serving_bench();
    let (namespaces, dir) = (inodes(&bench), bench.dir().to_owned());
    assert_eq!(namespaces.len(), 9);
    assert!(users_of(&namespaces).len() > 9, "holders and services are found");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _bench = bench;
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert!(!dir.exists());
    assert_vanish(&namespaces);
    assert_eq!(host_links(), links);
}

#[test]
fn a_killed_owner_leaves_nothing() {
    if !xtask::require_root("a_killed_owner_leaves_nothing") {
        return;
    }
    if env::var_os(OWNER).is_some() {
        own_a_bench_until_killed();
    }
    let mut owner = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "a_killed_owner_leaves_nothing", "--nocapture"])
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("owner");
    let lines = BufReader::new(owner.stdout.take().expect("stdout")).lines();
    let ready = lines
        .map(|line| line.expect("text"))
        .find_map(|line| Some(line.split_once("owner ready: ")?.1.to_owned()))
        .expect("the owner makes its bench");
    let (dir, inodes) = ready.split_once(' ').expect("directory and namespaces");
    let namespaces: BTreeSet<u64> =
        inodes.split(',').map(|inode| inode.parse().expect("inode")).collect();
    assert!(users_of(&namespaces).len() > 9, "the owner's bench is there");

    owner.kill().expect("SIGKILL");
    owner.wait().expect("owner ends");
    assert_vanish(&namespaces);

    assert!(Path::new(dir).exists(), "nobody was there to remove the files");
    let next = Bench::new(&Options::default()).expect("a second start");
    assert!(!Path::new(dir).exists(), "the second start removes them");
    drop(next);
}

/// Makes a bench with work in progress, a request that hangs in a fork of the web server
/// included, says so and waits.
fn own_a_bench_until_killed() -> ! {
    let bench = serving_bench();
    let phone = bench.device("redmi-1s");
    let url = format!("http://{}/cgi-bin/upload", ACCOUNT.ipv4);
    let slow = ["--limit-rate", "10", "--data-binary", "@/proc/self/exe", &url];
    let _upload = phone.spawn(&[&["curl", "-qsS"], &slow[..]].concat()).expect("upload");
    let _ping = phone.spawn(&["ping", GERMANY.ipv4]).expect("ping");
    thread::sleep(Duration::from_millis(500));
    // The server shall not learn that its client dies.
    bench.internet().ip("link set wan0 down").expect("cut");
    let inodes: Vec<_> = inodes(&bench).iter().map(u64::to_string).collect();
    println!("owner ready: {} {}", bench.dir().display(), inodes.join(","));
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}

#[test]
fn enter_runs_inside_and_returns() {
    if !xtask::require_root("enter_runs_inside_and_returns") {
        return;
    }
    let bench = Bench::new(&Options::default()).expect("bench");
    let netns =
        || File::open("/proc/thread-self/ns/net").expect("ns").metadata().expect("stat").ino();
    let outside = netns();
    let inside = bench.gateway().enter(netns).expect("enter");
    assert_eq!(inside, bench.gateway().inode().expect("inode"));
    assert_ne!(inside, outside);
    assert_eq!(netns(), outside, "the caller has not moved");

    // A socket opened inside stays inside.
    let listener = bench
        .internet()
        .enter(|| TcpListener::bind((GERMANY.ipv4, 7)).expect("bind inside"))
        .expect("enter");
    let phone = bench.device("galaxy");
    let _open = phone
        .enter(|| TcpStream::connect((GERMANY.ipv4, 7)).expect("connect inside"))
        .expect("enter");
    let (_, peer) = listener.accept().expect("accept outside");
    assert_eq!(peer.ip().to_string(), "192.168.77.14");
}
