//! Which files get which values, on hosts of either kind, and what is refused.
use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn compile(json: &str, hierarchies: &Hierarchies) -> Result<Vec<(String, String)>, String> {
    let spec: LinuxResources = serde_json::from_str(json).unwrap();
    let resources = Resources::compile(Some(&spec), hierarchies).map_err(|error| error.to_string())?;
    let writes = resources.v1.into_iter().chain(resources.v2);
    Ok(writes.map(|write| (write.file, write.value)).collect())
}

/// Every controller there is.
fn full_v2() -> Hierarchies {
    Hierarchies::unified(&["cpu", "cpuset", "hugetlb", "io", "memory", "pids", "rdma"])
}

fn full_v1() -> Hierarchies {
    let all =
        ["blkio", "cpu", "cpuset", "devices", "hugetlb", "memory", "net_cls", "net_prio", "pids", "rdma"];
    Hierarchies::legacy(&all)
}

/// The same resources on v2 and on v1, in that order.
fn on_both(json: &Value) -> [Result<Vec<(String, String)>, String>; 2] {
    [full_v2(), full_v1()].map(|host| compile(&json.to_string(), &host))
}

fn assert_files(json: &Value, v2: &[(&str, &str)], v1: &[(&str, &str)]) {
    assert_eq!(on_both(json), [Ok(pairs(v2)), Ok(pairs(v1))], "{json}");
}

fn assert_refused(json: &Value, v2: &str, v1: &str) {
    for (found, expected) in on_both(json).into_iter().zip([v2, v1]) {
        let found = found.map_or_else(|error| error, |writes| format!("{writes:?}"));
        assert!(found.contains(expected), "{json}: {found}");
    }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(file, value)| ((*file).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_same_limits_on_v2_and_v1() {
    let json = r#"{"memory":{"limit":67108864,"swap":134217728,"reservation":1000},
        "cpu":{"quota":50000,"period":100000,"shares":1024},"pids":{"limit":100}}"#;
    let v2 = Hierarchies::unified(&["cpu", "memory", "pids"]);
    let expected = [
        ("memory.max", "67108864"),
        ("memory.swap.max", "67108864"),
        ("memory.low", "1000"),
        ("cpu.weight", "100"),
        ("cpu.max", "50000 100000"),
        ("pids.max", "100"),
    ];
    assert_eq!(compile(json, &v2).unwrap(), pairs(&expected));
    let v1 = Hierarchies::legacy(&["cpu", "memory", "pids"]);
    let expected = [
        ("memory.limit_in_bytes", "67108864"),
        ("memory.memsw.limit_in_bytes", "134217728"),
        ("memory.soft_limit_in_bytes", "1000"),
        ("cpu.shares", "1024"),
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_quota_us", "50000"),
        ("pids.max", "100"),
    ];
    assert_eq!(compile(json, &v1).unwrap(), pairs(&expected));
}

#[test]
fn what_the_host_lacks_is_named_with_its_json_path() {
    let v2 = Hierarchies::unified(&["cpu"]);
    let error = compile(r#"{"memory":{"limit":1}}"#, &v2).unwrap_err();
    assert!(error.starts_with("linux.resources.memory.limit: the memory controller"), "{error}");
    let error = compile(r#"{"network":{"classID":1}}"#, &v2).unwrap_err();
    assert!(error.starts_with("linux.resources.network.classID: the net_cls"), "{error}");
}

#[test]
fn unified_names_cannot_be_paths() {
    let v2 = Hierarchies::unified(&["memory"]);
    assert_eq!(compile(r#"{"unified":{"memory.high":"5"}}"#, &v2).unwrap(), pairs(&[("memory.high", "5")]));
    assert!(compile(r#"{"unified":{"../memory.high":"5"}}"#, &v2).is_err());
    assert!(compile(r#"{"unified":{"io.max":"5"}}"#, &v2).is_err());
}

#[test]
fn pids_know_no_limit_and_no_fork() {
    for (limit, value) in [(-1, "max"), (-7, "max"), (0, "1"), (1, "1"), (9, "9")] {
        assert_files(&json!({"pids": {"limit": limit}}), &[("pids.max", value)], &[("pids.max", value)]);
    }
}

#[test]
fn weights_go_to_the_schedulers_own_file_where_there_is_one() {
    let json = json!({"blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 16, "weight": 10}]}});
    let files_and_alternatives = |host: Hierarchies| {
        let spec = serde_json::from_value(json.clone()).unwrap();
        let resources = Resources::compile(Some(&spec), &host).unwrap();
        let writes = resources.v1.into_iter().chain(resources.v2);
        writes.map(|write| (write.file, write.value, write.instead.unwrap())).collect::<Vec<_>>()
    };
    let row = |file: &str, value: &str, other: &str, other_value: &str| {
        (file.to_owned(), value.to_owned(), (other.to_owned(), other_value.to_owned()))
    };
    let on_v2 = [
        row("io.bfq.weight", "500", "io.weight", "4950"),
        row("io.bfq.weight", "8:16 10", "io.weight", "8:16 1"),
    ];
    assert_eq!(files_and_alternatives(full_v2()), on_v2);
    let on_v1 = [
        row("blkio.weight", "500", "blkio.bfq.weight", "500"),
        row("blkio.weight_device", "8:16 10", "blkio.bfq.weight_device", "8:16 10"),
    ];
    assert_eq!(files_and_alternatives(full_v1()), on_v1);
}

#[test]
fn the_file_that_the_kernel_has_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let mut write = Write::new("io", "io.bfq.weight", "500".to_owned(), String::new());
    write.instead = Some(("io.weight".to_owned(), "4950".to_owned()));
    assert_eq!(write.for_directory(directory.path()), ("io.weight", "4950"));
    std::fs::write(directory.path().join("io.bfq.weight"), "").unwrap();
    assert_eq!(write.for_directory(directory.path()), ("io.bfq.weight", "500"));
}

#[test]
fn throttles_are_lines_of_one_file_on_v2_and_of_four_on_v1() {
    let device = |rate: u64| json!([{"major": 8, "minor": 0, "rate": rate}]);
    let json = json!({"blockIO": {
        "throttleReadBpsDevice": device(1), "throttleWriteBpsDevice": device(2),
        "throttleReadIOPSDevice": device(3), "throttleWriteIOPSDevice": device(0)
    }});
    let v2 = [
        ("io.max", "8:0 rbps=1"),
        ("io.max", "8:0 wbps=2"),
        ("io.max", "8:0 riops=3"),
        ("io.max", "8:0 wiops=max"),
    ];
    let v1 = [
        ("blkio.throttle.read_bps_device", "8:0 1"),
        ("blkio.throttle.write_bps_device", "8:0 2"),
        ("blkio.throttle.read_iops_device", "8:0 3"),
        ("blkio.throttle.write_iops_device", "8:0 0"),
    ];
    assert_files(&json, &v2, &v1);
}

#[test]
fn huge_pages_are_limited_when_used_and_when_reserved() {
    let json = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
    let v2 = [("hugetlb.2MB.max", "4194304"), ("hugetlb.2MB.rsvd.max", "4194304")];
    let v1 = [("hugetlb.2MB.limit_in_bytes", "4194304"), ("hugetlb.2MB.rsvd.limit_in_bytes", "4194304")];
    assert_files(&json, &v2, &v1);
    for size in ["", "MB", "2", "02MB", "2mb", "../2MB", "2MiB"] {
        let json = json!({"hugepageLimits": [{"pageSize": size, "limit": 1}]});
        let path = "linux.resources.hugepageLimits[0].pageSize: ";
        assert_refused(&json, path, path);
    }
}

#[test]
fn rdma_leaves_what_is_not_given() {
    let json = json!({"rdma": {"mlx5_1": {"hcaHandles": 3}, "mlx5_0": {"hcaObjects": 5, "hcaHandles": 2}}});
    let files = [("rdma.max", "mlx5_0 hca_handle=2 hca_object=5"), ("rdma.max", "mlx5_1 hca_handle=3")];
    assert_files(&json, &files, &files);
    for rdma in [json!({"mlx5_0": {}}), json!({"a b": {"hcaHandles": 3}})] {
        assert_refused(&json!({"rdma": rdma}), "linux.resources.rdma.", "linux.resources.rdma.");
    }
}

#[test]
fn what_one_version_lacks_is_refused_there() {
    let gone = "remove it from the config";
    let priorities = json!({"network": {"classID": 5, "priorities": [{"name": "eth0", "priority": 7}]}});
    assert_refused(&priorities, "network.classID: the net_cls controller", "net_cls.classid");
    assert_refused(&priorities, "it exists on cgroup v1 only", "(\"net_prio.ifpriomap\", \"eth0 7\")");
    assert_refused(&json!({"memory": {"swappiness": 10}}), gone, "(\"memory.swappiness\", \"10\")");
    assert_refused(&json!({"memory": {"disableOOMKiller": true}}), gone, "(\"memory.oom_control\", \"1\")");
    assert_refused(&json!({"cpu": {"realtimeRuntime": 9}}), gone, "(\"cpu.rt_runtime_us\", \"9\")");
    assert_refused(&json!({"blockIO": {"leafWeight": 10}}), gone, "(\"blkio.leaf_weight\", \"10\")");
    assert_refused(&json!({"unified": {"memory.high": "5"}}), "(\"memory.high\", \"5\")", "needs cgroup v2");
}

#[test]
fn kernel_memory_is_warned_about_where_it_has_no_effect() {
    let spec = serde_json::from_value(json!({"memory": {"kernel": 4096, "kernelTCP": 8192}})).unwrap();
    let v2 = Resources::compile(Some(&spec), &full_v2()).unwrap();
    let paths: Vec<_> = v2.warnings().iter().filter_map(|warning| warning.split(": ").next()).collect();
    assert_eq!(paths, ["linux.resources.memory.kernel", "linux.resources.memory.kernelTCP"]);
    assert!(v2.v2.is_empty());
    let v1 = Resources::compile(Some(&spec), &full_v1()).unwrap();
    assert_eq!(v1.warnings().len(), 1);
    assert_eq!((v1.v1[0].file.as_str(), v1.v1[0].value.as_str()), ("memory.kmem.tcp.limit_in_bytes", "8192"));
}

#[test]
fn unified_values_are_written_line_by_line_and_never_move_processes() {
    let host = full_v2();
    let json = json!({"unified": {"io.max": "8:0 rbps=1\n8:16 rbps=2\n"}});
    let lines = pairs(&[("io.max", "8:0 rbps=1"), ("io.max", "8:16 rbps=2")]);
    assert_eq!(compile(&json.to_string(), &host), Ok(lines));
    for file in ["cgroup.procs", "cgroup.kill", "memory.", "memory", "moon.max", "a/b.c", ""] {
        let error = compile(&json!({"unified": {file: "1"}}).to_string(), &host).unwrap_err();
        assert!(error.starts_with(&format!("linux.resources.unified.{file}: ")), "{error}");
    }
    assert!(compile(r#"{"unified":{"memory.high":" "}}"#, &host).is_err());
}

/// Numbers at the edges of what the kernel and the specification take.
fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        prop_oneof![Just(0), Just(-1), Just(i64::MIN), Just(i64::MAX), Just(1), Just(1024)]
            .prop_map(Value::from),
        (0i64..2000).prop_map(Value::from),
    ]
}

fn small() -> impl Strategy<Value = Value> {
    prop_oneof![Just(json!(null)), (0u16..1200).prop_map(Value::from), Just(json!(u16::MAX))]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("0-3,7".to_owned()),
        Just("2MB".to_owned()),
        "\\PC{0,12}",
        "[a-z.]{1,12}\n?"
    ]
}

fn positive() -> impl Strategy<Value = Value> {
    prop_oneof![Just(json!(null)), any::<u64>().prop_map(Value::from), (0u64..4096).prop_map(Value::from)]
}

/// `linux.resources` as any JSON that has the specification's types.
fn resources() -> impl Strategy<Value = Value> {
    let memory =
        (number(), number(), number(), number(), positive(), any::<Option<bool>>(), any::<Option<bool>>())
            .prop_map(|(limit, swap, reservation, tcp, swappiness, oom, hierarchy)| {
                json!({"limit": limit, "swap": swap, "reservation": reservation, "kernelTCP": tcp,
                "swappiness": swappiness, "disableOOMKiller": oom, "useHierarchy": hierarchy})
            });
    let cpu = (positive(), number(), positive(), positive(), number(), number(), text(), text()).prop_map(
        |(shares, quota, burst, period, rt, idle, cpus, mems)| {
            json!({"shares": shares, "quota": quota, "burst": burst, "period": period, "realtimeRuntime": rt,
                "idle": idle, "cpus": cpus, "mems": mems})
        },
    );
    let block_io = (small(), small(), any::<i64>(), 0i64..300, small(), any::<u64>()).prop_map(
        |(weight, leaf, major, minor, device, rate)| {
            json!({"weight": weight, "leafWeight": leaf,
                "weightDevice": [{"major": major, "minor": minor, "weight": device, "leafWeight": leaf}],
                "throttleReadBpsDevice": [{"major": minor, "minor": minor, "rate": rate}]})
        },
    );
    let others = (
        any::<i64>(),
        text(),
        any::<i64>(),
        text(),
        any::<u32>(),
        text(),
        any::<Option<u32>>(),
        text(),
        text(),
    )
        .prop_map(|(pids, size, huge, name, class, device, handles, file, value)| {
            json!({"pids": {"limit": pids}, "hugepageLimits": [{"pageSize": size, "limit": huge}],
                "network": {"classID": class, "priorities": [{"name": name, "priority": class}]},
                "rdma": {device: {"hcaHandles": handles}}, "unified": {file: value}})
        });
    let subset = any::<[bool; 8]>();
    (memory, cpu, block_io, others, subset).prop_map(|(memory, cpu, block_io, others, subset)| {
        let mut all = others;
        all["memory"] = memory;
        all["cpu"] = cpu;
        all["blockIO"] = block_io;
        let all = all.as_object().cloned().unwrap_or_default();
        // All at once would rarely get past the first error.
        Value::Object(all.into_iter().zip(subset).filter(|(_, keep)| *keep).map(|(entry, _)| entry).collect())
    })
}

proptest! {
    #[test]
    fn whatever_is_asked_for_is_compiled_or_refused_by_its_path(json in resources()) {
        let spec: LinuxResources = serde_json::from_value(json).unwrap();
        let sparse = Hierarchies::unified(&["cpu"]);
        for host in [full_v2(), full_v1(), sparse] {
            match Resources::compile(Some(&spec), &host) {
                Ok(resources) => for write in resources.v1.iter().chain(&resources.v2) {
                    prop_assert!(write.at.starts_with("linux.resources."), "{:?}", write);
                    prop_assert!(!write.file.contains('/') && !write.value.contains('\n'), "{:?}", write);
                },
                Err(error) => prop_assert!(error.to_string().starts_with("linux.resources."), "{}", error),
            }
        }
    }
}
