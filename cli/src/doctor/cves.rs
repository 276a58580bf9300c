//! The security fixes of PostgreSQL that a server with secrets needs.
//!
//! From the advisories at <https://www.postgresql.org/support/security/>. Only those that let a role that can
//! merely connect read the server's memory or files, act as another role, or take over a dump.

use super::finding::{Finding, Fix, Verdict};

struct Cve {
    id: &'static str,
    /// The first minor release with the fix, by major release. Later major releases have the fix from .0 on.
    fixed: &'static [(u32, u32)],
    lets: &'static str,
}

static CVES: [Cve; 12] = [
    Cve { id: "CVE-2023-2454", fixed: &[(15, 3)], lets: "CREATE SCHEMA get past a pinned search_path" },
    Cve { id: "CVE-2023-5868", fixed: &[(15, 5), (16, 1)], lets: "a user read memory of the server" },
    Cve {
        id: "CVE-2023-5869",
        fixed: &[(15, 5), (16, 1)],
        lets: "a user read memory of the server and run code as the server",
    },
    Cve {
        id: "CVE-2024-7348",
        fixed: &[(15, 8), (16, 4)],
        lets: "a user run SQL as the role that dumps the database",
    },
    Cve {
        id: "CVE-2024-10978",
        fixed: &[(15, 9), (16, 5), (17, 1)],
        lets: "a query run as another role than that of SET ROLE",
    },
    Cve {
        id: "CVE-2024-10979",
        fixed: &[(15, 9), (16, 5), (17, 1)],
        lets: "a user of PL/Perl change the server's environment and run code as the server",
    },
    Cve {
        id: "CVE-2025-8714",
        fixed: &[(15, 14), (16, 10), (17, 6)],
        lets: "a superuser of a dumped server run code where the dump is restored",
    },
    Cve {
        id: "CVE-2025-8715",
        fixed: &[(15, 14), (16, 10), (17, 6)],
        lets: "a user run code where a dump with object names of that user is restored",
    },
    Cve {
        id: "CVE-2026-2006",
        fixed: &[(15, 16), (16, 12), (17, 8), (18, 2)],
        lets: "a user run code as the server",
    },
    Cve {
        id: "CVE-2026-6473",
        fixed: &[(15, 18), (16, 14), (17, 10), (18, 4)],
        lets: "a user run code as the server",
    },
    Cve {
        id: "CVE-2026-16239",
        fixed: &[(15, 19), (16, 15), (17, 11), (18, 6)],
        lets: "a user run code as the server",
    },
    Cve {
        id: "CVE-2026-6460",
        fixed: &[(15, 20), (16, 16), (17, 12), (18, 7)],
        lets: "a user run code as the server",
    },
];

const NAME: &str = "server-version";
const WHY: &str =
    "Code that runs as the server, or as a superuser, can read the keyring and every credential.";

/// The fixes that are missing in a server of this `server_version_num`, such as 150020 for 15.20.
pub(super) fn examine(version: i32) -> Vec<Finding> {
    let version = u32::try_from(version).unwrap_or_default();
    let (major, minor) = (version / 10_000, version % 10_000);
    let finding = |verdict, found, fix| Finding { check: NAME, verdict, found, why: WHY, fix };
    let missing = CVES.iter().filter_map(|cve| {
        let &(_, fixed) =
            cve.fixed.iter().find(|(of, _)| *of == major).filter(|(_, fixed)| minor < *fixed)?;
        let Cve { id, lets, .. } = cve;
        Some(finding(
            Verdict::Problem,
            format!("PostgreSQL {major}.{minor} lacks the fix of {id}, which lets {lets}"),
            Some(Fix::ByHand(format!(
                "Install PostgreSQL {major}.{fixed} or, better, the newest {major}, and restart the server."
            ))),
        ))
    });
    let missing: Vec<_> = missing.collect();
    if !missing.is_empty() {
        return missing;
    }
    let found =
        format!("PostgreSQL {major}.{minor} has the security fixes that this release of intcred checks");
    vec![finding(Verdict::Ok, found, None)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(version: i32) -> Vec<String> {
        let findings = examine(version).into_iter().filter(|finding| finding.verdict == Verdict::Problem);
        findings.map(|finding| finding.found).collect()
    }

    #[test]
    fn a_minor_release_lacks_what_was_fixed_after_it() {
        assert_eq!(missing(150_000).len(), CVES.len());
        assert_eq!(missing(150_019).len(), 1);
        assert!(missing(150_019)[0].contains("CVE-2026-6460"), "{:?}", missing(150_019));
        assert!(missing(150_020).is_empty());
        assert_eq!(missing(170_000).len(), 8, "what was fixed before 17 is in 17.0");
        assert_eq!(missing(180_006).len(), 1);
        assert!(missing(190_000).is_empty());
    }

    #[test]
    fn each_fix_is_in_every_later_major() {
        for Cve { id, fixed, .. } in &CVES {
            assert!(fixed.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0), "{id}");
        }
    }
}
