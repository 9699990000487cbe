//! The kernel modules that the bench needs, in the order in which they can be loaded.

use std::{
    collections::HashMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

/// Links, the switch, and what clsact is made of.
const WANTED: [&str; 4] = ["veth", "bridge", "sch_ingress", "cls_bpf"];

/// A module, ready to be loaded.
pub(super) struct Module {
    pub(super) name: String,
    /// Its ELF object.
    pub(super) object: Vec<u8>,
}

/// Reads the modules of an unpacked kernel, each behind those that it depends on.
///
/// # Errors
/// When one is neither there nor built in.
pub(super) fn read(kernel: &Path) -> Result<Vec<Module>> {
    let files = find(kernel)?;
    let builtin = files.get("modules.builtin").context("the kernel lists no built-in modules")?;
    let builtin = fs::read_to_string(builtin).context("can't read the built-in modules")?;
    let builtin: Vec<_> = builtin.lines().filter_map(|line| module_name(Path::new(line))).collect();
    let mut modules = Vec::new();
    for name in WANTED {
        add(name, &files, &builtin, &mut modules)?;
    }
    Ok(modules)
}

fn add(
    name: &str,
    files: &HashMap<String, PathBuf>,
    builtin: &[String],
    modules: &mut Vec<Module>,
) -> Result<()> {
    if modules.iter().any(|module| module.name == name) || builtin.iter().any(|known| known == name)
    {
        return Ok(());
    }
    let file = files.get(name).with_context(|| format!("the kernel has no module {name}"))?;
    let object = object(file).with_context(|| format!("can't read {}", file.display()))?;
    for dependency in dependencies(&object) {
        add(&dependency, files, builtin, modules)?;
    }
    modules.push(Module { name: name.to_owned(), object });
    Ok(())
}

/// All modules by their names, and the list of those that are built in.
fn find(directory: &Path) -> Result<HashMap<String, PathBuf>> {
    let mut files = HashMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("can't read {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                directories.push(path);
            } else if path.ends_with("modules.builtin") {
                files.insert("modules.builtin".to_owned(), path);
            } else if let Some(name) = module_name(&path) {
                files.insert(name, path);
            }
        }
    }
    Ok(files)
}

/// The name as the kernel has it, of a file such as `cls-bpf.ko.xz`.
fn module_name(path: &Path) -> Option<String> {
    let (name, suffix) = path.file_name()?.to_str()?.split_once(".ko")?;
    matches!(suffix, "" | ".xz" | ".zst").then(|| name.replace('-', "_"))
}

fn object(file: &Path) -> Result<Vec<u8>> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => Ok(fs::read(file)?),
        Some("xz") => {
            let output = Command::new("xz").args(["-dc", "--"]).arg(file).output();
            let output = output.context("xz didn't start: is it installed?")?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(output.stdout)
        }
        Some("zst") => {
            let mut object = Vec::new();
            let mut decoder = ruzstd::decoding::StreamingDecoder::new(fs::File::open(file)?)?;
            decoder.read_to_end(&mut object)?;
            Ok(object)
        }
        _ => bail!("its compression is unknown"),
    }
}

/// The modules named in section `.modinfo`: strings that end in a zero (Linux, `include/linux/module.h`).
fn dependencies(object: &[u8]) -> Vec<String> {
    let strings = object.split(|&octet| octet == 0);
    strings
        .filter_map(|string| string.strip_prefix(b"depends="))
        .flat_map(|names| names.split(|&octet| octet == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What there is of a module's object that matters here.
    fn object_with(depends: &str) -> Vec<u8> {
        format!("\x7fELF\0license=GPL\0depends={depends}\0name=x\0").into_bytes()
    }

    fn kernel(modules: &[(&str, &str)], builtin: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let net = dir.path().join("usr/lib/modules/6.1/kernel/net");
        fs::create_dir_all(&net).unwrap();
        fs::write(dir.path().join("usr/lib/modules/6.1/modules.builtin"), builtin).unwrap();
        for (file, depends) in modules {
            fs::write(net.join(file), object_with(depends)).unwrap();
        }
        dir
    }

    #[test]
    fn a_module_comes_behind_what_it_depends_on() {
        let files = [
            ("veth.ko", ""),
            ("bridge.ko", "stp,llc"),
            ("stp.ko", "llc"),
            ("llc.ko", ""),
            ("cls_bpf.ko", ""),
            ("tun.ko", ""),
        ];
        let kernel = kernel(&files, "kernel/net/sched/sch_ingress.ko\n");
        let modules = read(kernel.path()).unwrap();
        let names: Vec<_> = modules.iter().map(|module| &*module.name).collect();
        assert_eq!(names, ["veth", "llc", "stp", "bridge", "cls_bpf"]);
    }

    #[test]
    fn one_that_is_nowhere_is_named() {
        let kernel = kernel(&[("veth.ko", "")], "");
        let error = read(kernel.path()).err().unwrap().to_string();
        assert_eq!(error, "the kernel has no module bridge");
    }

    #[test]
    fn a_name_has_underscores_and_no_suffix() {
        assert_eq!(module_name(Path::new("a/cls-bpf.ko.xz")).as_deref(), Some("cls_bpf"));
        assert_eq!(module_name(Path::new("veth.ko")).as_deref(), Some("veth"));
        assert_eq!(module_name(Path::new("vmlinuz")), None);
        assert_eq!(module_name(Path::new("x.kobject")), None);
    }
}
