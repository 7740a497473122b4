//! `linux.resources.hugepageLimits`.
use super::{Compiler, Home};
use crate::cgroup::Error;
use oci_spec::runtime::LinuxHugepageLimit;

impl Compiler<'_> {
    /// Both what is used and what is reserved: a reservation that exceeds the limit fails in mmap(2),
    /// where a use that exceeds it ends the process by SIGBUS; cgroup-v1/hugetlb.rst. Kernels before 5.7
    /// do not count reservations.
    pub(super) fn hugepages(&mut self, limits: &[LinuxHugepageLimit]) -> Result<(), Error> {
        for (index, limit) in limits.iter().enumerate() {
            let field = format!("hugepageLimits[{index}]");
            let size = checked(limit.page_size(), &field)?;
            let unlimited = if self.home("hugetlb", &field)? == Home::V1 { "-1" } else { "max" };
            let value = if limit.limit() < 0 { unlimited.to_owned() } else { limit.limit().to_string() };
            for (kind, optional) in [("", false), ("rsvd.", true)] {
                let v1 = format!("hugetlb.{size}.{kind}limit_in_bytes");
                let v2 = format!("hugetlb.{size}.{kind}max");
                self.set("hugetlb", &field, [Some(&v1), Some(&v2)], value.clone())?.optional = optional;
            }
        }
        Ok(())
    }
}

/// A size as the kernel writes it in file names: a number and KB, MB or GB.
fn checked<'a>(size: &'a str, field: &str) -> Result<&'a str, Error> {
    let number = size.strip_suffix("KB").or(size.strip_suffix("MB")).or(size.strip_suffix("GB"));
    let plain = number.is_some_and(|digits| {
        !digits.starts_with('0') && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    let at = format!("linux.resources.{field}.pageSize");
    if plain { Ok(size) } else { Err(Error::config(&at, format!("{size:?} is not a page size such as 2MB"))) }
}
