//! What a run takes inside the program, part by part, without the kernel's share: `cargo bench --bench parts`.
//! scripts/bench runs it and puts the estimates into docs/benchmarks.md.
//!
//! Two configs: the one of `wharf-oci spec`, and Docker's: an engine's where `WHARF_BENCH_DOCKER` names its bundle,
//! else the one that `wharf run` starts from, which has the same capabilities, mounts and an equal profile.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use oci_spec::runtime::Spec;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use wharf::cgroup::{Hierarchies, Resources};
use wharf::container::{ContainerId, preview, read_config};
use wharf::sandbox::{Inputs, Plan, Rootfs, default_spec, seccomp};
use wharf::sys::arena::Arena;

/// As in the program.
#[global_allocator]
static ALLOCATOR: Arena = Arena;

/// A bundle whose config is this one.
fn bundle(mut spec: Spec) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("rootfs")).unwrap();
    let mut process = spec.process().clone().unwrap();
    process.set_terminal(Some(false)).set_args(Some(vec!["/bin/true".to_owned()]));
    spec.set_process(Some(process));
    std::fs::write(directory.path().join("config.json"), serde_json::to_vec_pretty(&spec).unwrap()).unwrap();
    directory
}

fn config(criterion: &mut Criterion, name: &str, bundle: &Path) {
    let read = || read_config(bundle, |_| ()).unwrap();
    let spec = read();
    let linux = spec.linux().as_ref().unwrap();
    let hierarchies = Hierarchies::detect().unwrap();
    let id: ContainerId = "bench".parse().unwrap();
    let mut group = criterion.benchmark_group(name);

    group.bench_function("read and parse config.json", |bencher| bencher.iter(read));
    group.bench_function("compile the Plan", |bencher| {
        bencher.iter(|| {
            let root = Rootfs::Directory(bundle.join("rootfs"));
            Plan::compile(
                black_box(&spec),
                Inputs { bundle: bundle.to_owned(), ..Inputs::of(root) },
                &hierarchies,
            )
            .unwrap()
        });
    });
    group.bench_function("compile the resources and device rules", |bencher| {
        bencher.iter(|| Resources::compile(black_box(linux.resources().as_ref()), &hierarchies).unwrap());
    });
    if let Some(profile) = linux.seccomp() {
        group.bench_function("compile the seccomp program", |bencher| {
            bencher.iter(|| seccomp::compile(black_box(profile)).unwrap());
        });
    }
    group.bench_function("all that `create` decides, as `wharf-oci plan` prints it", |bencher| {
        bencher.iter(|| preview(&id, bundle, black_box(&spec), false).unwrap());
    });
    group.finish();
}

fn parts(criterion: &mut Criterion) {
    let default = bundle(default_spec::runtime_default());
    let own = bundle(default_spec::instance_default());
    let docker = std::env::var_os("WHARF_BENCH_DOCKER").map_or_else(|| own.path().to_owned(), PathBuf::from);
    criterion.bench_function("find the host's cgroup hierarchies", |bencher| {
        bencher.iter(|| Hierarchies::detect().unwrap());
    });
    config(criterion, "runtime-spec default", default.path());
    config(criterion, "Docker's config", &docker);
}

criterion_group!(benches, parts);
criterion_main!(benches);
