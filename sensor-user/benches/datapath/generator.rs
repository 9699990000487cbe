//! Live traffic: frames that the kernel makes by test_run, through a veth pair, all on one CPU.

use std::{
    error::Error,
    os::fd::{AsFd as _, AsRawFd as _},
    process::Command,
};

use aya::{
    Ebpf, EbpfLoader, Pod, TestRun as _,
    maps::{Array, Map, MapData, ProgramArray},
    programs::{
        LinkOrder, SchedClassifier, TcAttachType, TestRunAttrs, TestRunOptions, Xdp, XdpMode,
        tc::TcAttachOptions,
    },
};
use labgate::{config::AttachMode, kernel::interface_counters};
use memmap2::{MmapOptions, MmapRaw};
use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, CpuSet, sched_setaffinity, unshare},
    unistd::Pid,
};

use crate::{
    plan::{CHUNK, MAX_KEYS, PROGRAMS, Plan, TICKS},
    traffic::Workload,
};

/// Where frames leave, and where they arrive.
const SENDER: &str = "sender";
const RECEIVER: &str = "receiver";
/// What is sent on from the receiver leaves here, and is gone.
const OUTLET: &str = "outlet";

/// Frames that test_run makes before it hands them on; veth's ring has room for 256.
const BATCH: u32 = 64;

/// Where programs are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Native XDP.
    Xdp,
    /// TC ingress.
    TcIngress,
    /// TC egress.
    TcEgress,
}

impl Hook {
    /// How the daemon is told to attach there.
    pub(crate) const fn mode(self) -> AttachMode {
        match self {
            Self::Xdp => AttachMode::Xdp,
            Self::TcIngress | Self::TcEgress => AttachMode::Tc,
        }
    }

    /// The word of the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::TcIngress => "tc_ingress",
            Self::TcEgress => "tc_egress",
        }
    }

    /// The interface where they are.
    pub(crate) fn interface(self) -> &'static str {
        match self {
            Self::Xdp | Self::TcIngress => RECEIVER,
            Self::TcEgress => OUTLET,
        }
    }

    /// The empty program of the hook.
    pub(crate) fn empty(self) -> &'static str {
        match self {
            Self::Xdp => "empty_xdp",
            Self::TcIngress | Self::TcEgress => "empty_tc",
        }
    }
}

/// Moves this thread to the last CPU and into a new network namespace, and makes the interfaces
/// there. They go with the namespace, when the process ends.
pub(crate) fn enclose() -> Result<(), Box<dyn Error>> {
    let mut cpus = CpuSet::new();
    cpus.set(labgate::kernel::possible_cpus().saturating_sub(1))?;
    sched_setaffinity(Pid::from_raw(0), &cpus)?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    ip(&["link", "add", SENDER, "type", "veth", "peer", "name", RECEIVER])?;
    // Its other end stays down, and what goes there is dropped.
    ip(&["link", "add", OUTLET, "type", "veth", "peer", "name", "nowhere"])?;
    for interface in [SENDER, RECEIVER, OUTLET] {
        ip(&["link", "set", "dev", interface, "addrgenmode", "none"])?;
        ip(&["link", "set", "dev", interface, "up"])?;
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<(), Box<dyn Error>> {
    let status = Command::new("ip").args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("ip {} failed", arguments.join(" ")).into()) }
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct PodPlan(Plan);

// SAFETY: integers only, without padding (the plan has a word that fills it up).
unsafe impl Pod for PodPlan {}

/// The generator, and the programs that are measured beside the sensor.
pub(crate) struct Generator {
    programs: Ebpf,
    sequence: MmapRaw,
    mask: u32,
    /// Packets are downloads to the sensor.
    egress: bool,
    /// Held: they detach when dropped.
    links: Vec<Box<dyn std::any::Any>>,
}

impl Generator {
    /// Loads all programs; maps that grow with the keys get `entries` entries.
    pub(crate) fn new(object: &[u8], entries: u32) -> Result<Self, Box<dyn Error>> {
        let mut loader = EbpfLoader::new();
        for map in ["PREFIXES", "RECENT_PREFIXES", "FLOW_HASH"] {
            loader.map_max_entries(map, entries);
        }
        let mut programs = loader.load(object)?;
        xdp(&mut programs, "generate")?.load()?;
        let Some(Map::Array(data)) = programs.map("SEQUENCE") else {
            return Err("no map SEQUENCE".into());
        };
        let sequence = MmapOptions::new()
            .len(MAX_KEYS as usize * size_of::<u64>())
            .map_raw(data.fd().as_fd().as_raw_fd())?;
        Ok(Self { programs, sequence, mask: 0, egress: false, links: Vec::new() })
    }

    /// Loads and returns one of its programs for XDP.
    pub(crate) fn xdp(&mut self, name: &str) -> Result<&mut Xdp, Box<dyn Error>> {
        let program = xdp(&mut self.programs, name)?;
        if program.fd().is_err() {
            program.load()?;
        }
        Ok(program)
    }

    /// Loads and returns one of its programs for TC.
    pub(crate) fn tc(&mut self, name: &str) -> Result<&mut SchedClassifier, Box<dyn Error>> {
        let program: &mut SchedClassifier = self
            .programs
            .program_mut(name)
            .ok_or_else(|| format!("no program {name}"))?
            .try_into()?;
        if program.fd().is_err() {
            program.load()?;
        }
        Ok(program)
    }

    /// One of its maps.
    pub(crate) fn map(&mut self, name: &str) -> Result<&mut Map, Box<dyn Error>> {
        Ok(self.programs.map_mut(name).ok_or_else(|| format!("no map {name}"))?)
    }

    /// Attaches what leads packets to a hook and ends their way behind it, and the dispatcher there.
    /// Returns the array of the programs that are measured, in the order of their turns.
    pub(crate) fn dispatch(&mut self, hook: Hook) -> Result<ProgramArray<MapData>, Box<dyn Error>> {
        self.lead_alone(hook)?;
        let programs = match hook {
            Hook::Xdp => {
                self.attach_xdp("dispatch_xdp")?;
                "XDP_PROGRAMS"
            }
            Hook::TcIngress => {
                self.attach_tc("dispatch_tc", RECEIVER, TcAttachType::Ingress, LinkOrder::first())?;
                "TC_PROGRAMS"
            }
            Hook::TcEgress => {
                self.attach_tc("dispatch_tc", OUTLET, TcAttachType::Egress, LinkOrder::first())?;
                "TC_PROGRAMS"
            }
        };
        // The programs that use it are loaded; only this handle is needed from here on.
        let programs = self.programs.take_map(programs).ok_or("no map of programs")?;
        Ok(programs.try_into()?)
    }

    /// Attaches what leads packets to a hook and ends their way behind it; the hook stays free.
    pub(crate) fn lead_alone(&mut self, hook: Hook) -> Result<(), Box<dyn Error>> {
        self.egress = hook == Hook::TcEgress;
        let last = match hook {
            Hook::Xdp | Hook::TcIngress => "sink",
            Hook::TcEgress => {
                let index = if_nametoindex(OUTLET)?;
                Array::<_, u32>::try_from(self.map("OUTLET")?)?.set(0, index, 0)?;
                "forward"
            }
        };
        self.attach_tc(last, RECEIVER, TcAttachType::Ingress, LinkOrder::last())?;
        if hook != Hook::Xdp {
            // Without a program at its XDP hook veth takes no such frames.
            self.attach_xdp("empty_xdp")?;
        }
        Ok(())
    }

    /// Attaches the empty program at XDP, until [`Generator::detach_last`].
    pub(crate) fn attach_empty(&mut self) -> Result<(), Box<dyn Error>> {
        self.attach_xdp("empty_xdp")
    }

    /// Detaches what was attached last.
    pub(crate) fn detach_last(&mut self) {
        self.links.pop();
    }

    fn attach_xdp(&mut self, name: &str) -> Result<(), Box<dyn Error>> {
        let program = self.xdp(name)?;
        let link = program.attach(RECEIVER, XdpMode::Driver)?;
        let link = program.take_link(link)?;
        self.links.push(Box::new(link));
        Ok(())
    }

    fn attach_tc(
        &mut self,
        name: &str,
        interface: &str,
        hook: TcAttachType,
        order: LinkOrder,
    ) -> Result<(), Box<dyn Error>> {
        let program = self.tc(name)?;
        let link =
            program.attach_with_options(interface, hook, TcAttachOptions::TcxOrder(order))?;
        let link = program.take_link(link)?;
        self.links.push(Box::new(link));
        Ok(())
    }

    /// Which keys come in which order: a power of two of them.
    pub(crate) fn set_sequence(&mut self, keys: &[u32]) {
        assert!(keys.len().is_power_of_two() && keys.len() <= MAX_KEYS as usize);
        for (index, &key) in keys.iter().enumerate() {
            let word = self.sequence.as_mut_ptr().cast::<u64>().wrapping_add(index);
            // SAFETY: within the mapping; no program runs now.
            unsafe { word.write_volatile(key.into()) };
        }
        self.mask = u32::try_from(keys.len() - 1).unwrap_or(0);
    }

    /// Sends so many chunks of frames, to the programs in turns of `1 << turn_bits` chunks. Returns
    /// nanoseconds per frame for each chunk.
    pub(crate) fn run(
        &mut self,
        workload: Workload,
        programs: u32,
        turn_bits: u32,
        chunks: u32,
    ) -> Result<Vec<f64>, Box<dyn Error>> {
        assert!(chunks < TICKS && programs <= PROGRAMS);
        let frame = workload.frame();
        let word = |at: usize| frame[at..].first_chunk().copied().map(u64::from_ne_bytes);
        let head = [word(0), word(8)].map(Option::unwrap_or_default);
        let plan = Plan {
            made: 0,
            head,
            mask: self.mask,
            address_at: workload.address_at(self.egress),
            devices: workload.devices(),
            programs,
            turn_bits,
            cuts: workload.cuts(),
            reserved: 0,
        };
        let map = self.programs.map_mut("PLAN").ok_or("no map PLAN")?;
        Array::<_, PodPlan>::try_from(map)?.set(0, PodPlan(plan), 0)?;
        // `struct xdp_md` of `linux/bpf.h`: data_end at octet 4, ingress_ifindex at 12.
        let mut context = [0; 24];
        context[4..8].copy_from_slice(&u32::try_from(frame.len())?.to_ne_bytes());
        context[12..16].copy_from_slice(&if_nametoindex(SENDER)?.to_ne_bytes());
        let repeat = frames(chunks);
        xdp(&mut self.programs, "generate")?.test_run(TestRunOptions {
            data_in: Some(&frame),
            ctx_in: Some(&context),
            repeat: u32::try_from(repeat)?,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        })?;
        let clock = self.programs.map("CLOCK").ok_or("no map CLOCK")?;
        let clock = Array::<_, u64>::try_from(clock)?;
        let ticks: Vec<u64> =
            (0..=chunks).map(|index| clock.get(&index, 0)).collect::<Result<_, _>>()?;
        Ok(ticks.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / CHUNK as f64).collect())
    }
}

/// Frames of a run: the one after the last chunk tells when that ended.
pub(crate) fn frames(chunks: u32) -> u64 {
    u64::from(chunks) * CHUNK + 1
}

fn xdp<'a>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, Box<dyn Error>> {
    Ok(programs.program_mut(name).ok_or_else(|| format!("no program {name}"))?.try_into()?)
}

/// What the interfaces have counted so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// Packets that arrived at the receiver.
    pub(crate) packets: u64,
    /// Their bytes, with Ethernet headers: so veth counts frames that did not come as packets of the
    /// stack.
    pub(crate) bytes: u64,
    /// Packets for which the receiver's ring had no room.
    pub(crate) dropped: u64,
}

/// Reads the interfaces' counters.
pub(crate) fn received() -> Result<Received, Box<dyn Error>> {
    let (sender, receiver) = (interface_counters(SENDER)?, interface_counters(RECEIVER)?);
    let (packets, bytes) = (receiver.rx_packets, receiver.rx_bytes);
    Ok(Received { packets, bytes, dropped: sender.dropped + receiver.dropped })
}
