//! Other ways to count, as tools of this kind do it, behind the very parser of the sensor.

use core::arch::asm;

use aya_ebpf::{
    bindings::{
        BPF_ANY, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST, TC_ACT_UNSPEC,
        xdp_action::XDP_PASS,
    },
    btf_maps::{
        Array, HashMap, LpmTrie, LruPerCpuHashMap, PerCpuArray, PerCpuHashMap, lpm_trie::Key,
    },
    helpers::bpf_ktime_get_ns,
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use sensor_common::{
    layout::{Direction, MAC_MASK},
    parse::{Frame as _, Octets as _, Parsed, parse_plain_ipv4},
};

use crate::{
    frame::Linear,
    measure,
    plan::{GATHER, MAX_KEYS},
};

const KEYS: usize = 2 * MAX_KEYS as usize;

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Tally {
    packets: u64,
    bytes: u64,
}

/// Device and /24.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PrefixKey {
    mac: u64,
    network: u64,
}

/// Offsets of a plain IPv4 frame's addresses.
const SOURCE: usize = 26;
const DESTINATION: usize = 30;

/// The floor: a cache line for each key, found without any search, and nothing else.
#[btf_map]
static LINES: Array<[u64; 8], { MAX_KEYS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

#[xdp]
pub fn floor(ctx: XdpContext) -> u32 {
    add_to_line(ctx.data(), ctx.data_end(), DESTINATION);
    XDP_PASS
}

#[classifier]
pub fn floor_tc_ingress(ctx: TcContext) -> i32 {
    add_to_line(ctx.data(), ctx.data_end(), DESTINATION);
    TC_ACT_UNSPEC
}

#[classifier]
pub fn floor_tc_egress(ctx: TcContext) -> i32 {
    add_to_line(ctx.data(), ctx.data_end(), SOURCE);
    TC_ACT_UNSPEC
}

#[inline(always)]
fn add_to_line(data: usize, end: usize, address_at: usize) {
    if data + address_at + 4 > end {
        return;
    }
    // SAFETY: lies in the packet, as just compared.
    let address = unsafe { *((data + address_at) as *const u32) };
    if let Some(line) = LINES.get_ptr_mut(address.wrapping_mul(GATHER) & (MAX_KEYS - 1)) {
        // SAFETY: only one CPU sends in a run.
        let line = unsafe { &mut *line };
        line[0] += 1;
        line[1] += (end - data) as u64;
    }
}

#[inline(always)]
fn parsed(ctx: &XdpContext) -> Option<(Parsed, u64)> {
    let frame = Linear::whole(ctx);
    let parsed = parse_plain_ipv4(&frame, Direction::Tx, || measure::xdp_link(ctx))?;
    Some((parsed, frame.wire_len() as u64))
}

#[inline(always)]
fn prefix_key(parsed: &Parsed) -> PrefixKey {
    let key = &parsed.key;
    PrefixKey { mac: key.mac_vlan & MAC_MASK, network: key.addr[0] & 0x00ff_ffff }
}

/// The usual way: a per-CPU hash.
#[btf_map]
static PREFIXES: PerCpuHashMap<PrefixKey, Tally, KEYS> = PerCpuHashMap::new();

#[xdp]
pub fn percpu_hash(ctx: XdpContext) -> u32 {
    if let Some((parsed, bytes)) = parsed(&ctx) {
        let key = prefix_key(&parsed);
        if let Some(tally) = PREFIXES.get_ptr_mut(key) {
            // SAFETY: this CPU's value.
            let tally = unsafe { &mut *tally };
            tally.packets += 1;
            tally.bytes += bytes;
        } else {
            let _full = PREFIXES.insert(key, Tally { packets: 1, bytes }, BPF_NOEXIST as u64);
        }
    }
    XDP_PASS
}

/// The same, forgetting the least recently used.
#[btf_map]
static RECENT_PREFIXES: LruPerCpuHashMap<PrefixKey, Tally, KEYS> = LruPerCpuHashMap::new();

#[xdp]
pub fn lru_percpu_hash(ctx: XdpContext) -> u32 {
    if let Some((parsed, bytes)) = parsed(&ctx) {
        let key = prefix_key(&parsed);
        if let Some(tally) = RECENT_PREFIXES.get_ptr_mut(key) {
            // SAFETY: this CPU's value.
            let tally = unsafe { &mut *tally };
            tally.packets += 1;
            tally.bytes += bytes;
        } else {
            let _lost = RECENT_PREFIXES.insert(key, Tally { packets: 1, bytes }, BPF_ANY as u64);
        }
    }
    XDP_PASS
}

/// A flow, as agents that export flows tell them apart.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct FiveTuple {
    source: [u8; 16],
    destination: [u8; 16],
    source_port: u16,
    destination_port: u16,
    protocol: u8,
    reserved: [u8; 3],
}

/// What they keep of it.
#[repr(C)]
pub struct Flow {
    packets: u64,
    bytes: u64,
    first: u64,
    last: u64,
}

/// One atomic addition. The compiler offers none for this target.
#[inline(always)]
fn add(word: *mut u64, value: u64) {
    // SAFETY: the verifier proves that the word lies in a map's value.
    unsafe {
        asm!("lock *(u64 *)({word} + 0) += {value}", word = in(reg) word, value = in(reg) value);
    }
}

/// One entry for all CPUs, added to atomically.
#[btf_map]
static FLOW_HASH: HashMap<FiveTuple, Flow, KEYS> = HashMap::new();

#[xdp]
pub fn flow_hash(ctx: XdpContext) -> u32 {
    if let Some((parsed, bytes)) = parsed(&ctx)
        && let Some(octets) = Linear::whole(&ctx).octets::<38>(0)
    {
        let mapped = |address: u32| {
            let [a, b, c, d] = address.to_ne_bytes();
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
        };
        let key = FiveTuple {
            source: mapped(octets.u32(26)),
            destination: mapped(octets.u32(30)),
            source_port: octets.u16(34),
            destination_port: octets.u16(36),
            protocol: parsed.key.protocol(),
            reserved: [0; 3],
        };
        // SAFETY: no argument, no precondition.
        let now = unsafe { bpf_ktime_get_ns() };
        if let Some(flow) = FLOW_HASH.get_ptr_mut(key) {
            // SAFETY: nobody removes entries during a run; a later time wins, whichever it is.
            unsafe {
                add(&raw mut (*flow).packets, 1);
                add(&raw mut (*flow).bytes, bytes);
                (*flow).last = now;
            }
        } else {
            let flow = Flow { packets: 1, bytes, first: now, last: now };
            let _full = FLOW_HASH.insert(key, flow, BPF_NOEXIST as u64);
        }
    }
    XDP_PASS
}

/// Geo in the kernel: a trie of networks, each with the number of its country.
#[btf_map]
static NETWORKS: LpmTrie<[u8; 4], u32, 524_288, { BPF_F_NO_PREALLOC as usize }> = LpmTrie::new();

/// One counter for each country.
#[btf_map]
static COUNTRIES: PerCpuArray<Tally, 256> = PerCpuArray::new();

#[xdp]
pub fn lpm(ctx: XdpContext) -> u32 {
    if let Some((parsed, bytes)) = parsed(&ctx)
        && let Some(country) = NETWORKS.get(&Key::new(32, parsed.key.ipv4()))
        && let Some(tally) = COUNTRIES.get_ptr_mut(*country & 0xff)
    {
        // SAFETY: this CPU's value.
        let tally = unsafe { &mut *tally };
        tally.packets += 1;
        tally.bytes += bytes;
    }
    XDP_PASS
}
