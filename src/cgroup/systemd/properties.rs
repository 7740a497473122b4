//! Limits as properties of a unit, `systemd.resource-control(5)`, so that systemd knows them, shows them
//! and does not write others over them. Read from the compiled writes; what has no property is written to
//! the delegated cgroup alone.
use super::wire::Value;

/// `CGROUP_LIMIT_MAX` and `CGROUP_WEIGHT_INVALID`'s neighbour: how systemd says "no limit".
const INFINITY: u64 = u64::MAX;
/// systemd.resource-control(5), CPUQuota=: more precise quotas are rounded by systemd itself to this.
const QUOTA_STEP_US: u64 = 10_000;
const SECOND_US: u64 = 1_000_000;

/// A property of a unit and its value.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cgroup) struct Property {
    pub(super) name: String,
    pub(super) value: Value,
}

impl Property {
    pub(super) fn new(name: impl Into<String>, value: Value) -> Self {
        Self { name: name.into(), value }
    }

    pub(super) fn text(name: &str, value: &str) -> Self {
        Self::new(name, Value::text(value))
    }

    pub(super) fn flag(name: &str, value: bool) -> Self {
        Self::new(name, Value::Bool(value))
    }
}

/// `a(sv)`.
pub(super) fn to_value(properties: &[Property]) -> Value {
    let entry = |property: &Property| {
        let value = Value::Variant(Box::new(property.value.clone()));
        Value::Struct(vec![Value::text(property.name.clone()), value])
    };
    Value::Array("(sv)".to_owned(), properties.iter().map(entry).collect())
}

/// The properties that say what these values in these files of a cgroup do.
pub(super) fn of_files<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Property> {
    files.into_iter().flat_map(|(file, value)| of_file(file, value.trim())).collect()
}

fn of_file(file: &str, value: &str) -> Vec<Property> {
    let number =
        |name| limit(value).map(|value| Property::new(name, Value::Uint64(value))).into_iter().collect();
    match file {
        "memory.max" => number("MemoryMax"),
        "memory.high" => number("MemoryHigh"),
        "memory.low" => number("MemoryLow"),
        "memory.min" => number("MemoryMin"),
        "memory.swap.max" => number("MemorySwapMax"),
        "pids.max" => number("TasksMax"),
        "cpu.weight" => number("CPUWeight"),
        // systemd.resource-control(5): the weight "idle" is 0 on the bus.
        "cpu.idle" if value == "1" => vec![Property::new("CPUWeight", Value::Uint64(0))],
        "cpu.max" => bandwidth(value),
        "cpuset.cpus" => list("AllowedCPUs", value),
        "cpuset.mems" => list("AllowedMemoryNodes", value),
        "io.weight" => io_weight(value),
        // Of a host with v1 hierarchies.
        "memory.limit_in_bytes" => number("MemoryLimit"),
        "cpu.shares" => number("CPUShares"),
        "blkio.weight" => number("BlockIOWeight"),
        _ => Vec::new(),
    }
}

fn limit(value: &str) -> Option<u64> {
    if matches!(value, "max" | "-1") { Some(INFINITY) } else { value.parse().ok() }
}

/// `QUOTA PERIOD` of cpu.max, as time that may be used in each second. systemd rounds up to hundredths of
/// the period; the exact value is written after it.
fn bandwidth(value: &str) -> Vec<Property> {
    let mut words = value.split_whitespace();
    let (Some(quota), Some(period)) = (words.next().and_then(limit), words.next().and_then(limit)) else {
        return Vec::new();
    };
    if period == 0 {
        return Vec::new();
    }
    let per_second = if quota == INFINITY {
        INFINITY
    } else {
        let exact = u128::from(quota) * u128::from(SECOND_US) / u128::from(period);
        u64::try_from(exact).unwrap_or(INFINITY).checked_next_multiple_of(QUOTA_STEP_US).unwrap_or(INFINITY)
    };
    vec![
        Property::new("CPUQuotaPeriodUSec", Value::Uint64(period)),
        Property::new("CPUQuotaPerSecUSec", Value::Uint64(per_second)),
    ]
}

/// `default 100`, or a device's own weight, which has no property.
fn io_weight(value: &str) -> Vec<Property> {
    let weight = value.strip_prefix("default ").unwrap_or(value).parse();
    weight.map(|weight| Property::new("IOWeight", Value::Uint64(weight))).into_iter().collect()
}

/// A list such as `0-3,8` as systemd takes it: a bit each, from the lowest of the first byte on.
fn list(name: &str, value: &str) -> Vec<Property> {
    /// systemd refuses more; the kernel's own refusal names the setting.
    const MOST: usize = 1 << 13;
    let mut bits: Vec<u8> = Vec::new();
    for range in value.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (Ok(from), Ok(to)) = (from.parse::<usize>(), to.parse::<usize>()) else { return Vec::new() };
        if to >= MOST {
            return Vec::new();
        }
        for bit in from..=to {
            if bits.len() <= bit / 8 {
                bits.resize(bit / 8 + 1, 0);
            }
            if let Some(byte) = bits.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    vec![Property::new(name, Value::Array("y".to_owned(), bits.into_iter().map(Value::Byte).collect()))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(file: &str, value: &str) -> Vec<(String, u64)> {
        let number = |property: Property| match property.value {
            Value::Uint64(value) => (property.name, value),
            other => panic!("{other:?}"),
        };
        of_file(file, value).into_iter().map(number).collect()
    }

    #[test]
    fn limits_become_properties() {
        let pair = |name: &str, value| (name.to_owned(), value);
        assert_eq!(numbers("memory.max", "67108864"), [pair("MemoryMax", 67_108_864)]);
        assert_eq!(numbers("memory.max", "max"), [pair("MemoryMax", INFINITY)]);
        assert_eq!(numbers("cpu.idle", "1"), [pair("CPUWeight", 0)]);
        assert_eq!(numbers("io.weight", "default 50"), [pair("IOWeight", 50)]);
        assert_eq!(numbers("io.weight", "8:0 50"), []);
        let quota = |period, value| [pair("CPUQuotaPeriodUSec", period), pair("CPUQuotaPerSecUSec", value)];
        assert_eq!(numbers("cpu.max", "50000 100000"), quota(100_000, 500_000));
        assert_eq!(numbers("cpu.max", "1001 100000"), quota(100_000, 20_000));
        assert_eq!(numbers("cpu.max", "max 100000"), quota(100_000, INFINITY));
        assert_eq!(numbers("cpu.max", "1 0"), []);
        assert_eq!(numbers("cgroup.max.depth", "3"), []);
    }

    #[test]
    fn lists_become_bits() {
        let bytes = |bytes: &[u8]| {
            let value = Value::Array("y".to_owned(), bytes.iter().copied().map(Value::Byte).collect());
            vec![Property::new("AllowedCPUs", value)]
        };
        assert_eq!(of_file("cpuset.cpus", "0-2,9"), bytes(&[0b111, 0b10]));
        assert_eq!(of_file("cpuset.cpus", "3-1"), bytes(&[]));
        assert_eq!(of_file("cpuset.cpus", "x"), []);
        assert_eq!(of_file("cpuset.cpus", "0-4294967295"), []);
    }
}
