//! Writing back what fuzzing has found to be worth keeping.

use std::{collections::HashSet, fs};

use anyhow::{Context as _, Result, ensure};

use super::{
    Built, campaign,
    corpus::{self, Group},
    temporary,
};

/// What the group that is written anew begins with; all others stay as they are.
const FOUND: &str = "Found by fuzzing";
/// Most text of that group, in bytes.
const MAX_TEXT: usize = 24 << 10;

/// Adds to the corpus of a target in the repository the fewest inputs that take every edge of the control flow
/// that any known input takes; the shortest of them, where they are too long.
pub(super) fn minimise(built: &Built, name: &str) -> Result<()> {
    let known = campaign::unpack(built, name)?;
    let path = campaign::text(name);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut groups = corpus::read(&text).with_context(|| path.display().to_string())?;
    groups.retain(|group| !group.comment.starts_with(FOUND));

    let temporary = temporary()?;
    let kept = temporary.path().join("kept");
    fs::create_dir(&kept).context("no directory for the inputs that are kept")?;
    let by_hand: HashSet<_> =
        groups.iter().flat_map(|group| group.inputs.iter().cloned()).collect();
    for (number, input) in by_hand.iter().enumerate() {
        fs::write(kept.join(format!("by-hand-{number}")), input).context("can't write an input")?;
    }
    let log = built.work.join(format!("{name}-minimise.log"));
    let file = fs::File::create(&log).with_context(|| log.display().to_string())?;
    let mut command = built.command(name, temporary.path());
    // How often an edge is taken is for the fuzzer, not for a test.
    command.args(["-set_cover_merge=1", "-use_counters=0"]).args([&kept, &known]);
    let status = command.stdout(file.try_clone()?).stderr(file).status();
    ensure!(
        status.with_context(|| format!("{name} didn't start"))?.success(),
        "{name} can't be minimised: see {}",
        log.display()
    );

    let mut found = Vec::new();
    for file in campaign::files(&kept)? {
        let input = fs::read(&file).with_context(|| file.display().to_string())?;
        if !by_hand.contains(&input) {
            found.push(input);
        }
    }
    found.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    let mut room = MAX_TEXT;
    let all = found.len();
    found.retain(|input| {
        let line = corpus::encode(input).len() + 1;
        room = room.saturating_sub(line);
        room > 0
    });
    eprintln!("{name}: {} inputs by hand, {} of {all} found", by_hand.len(), found.len());
    if !found.is_empty() {
        let comment = format!("{FOUND}, then minimised.");
        groups.push(Group { comment, inputs: found });
    }
    fs::write(&path, corpus::write(&groups)).with_context(|| path.display().to_string())
}
