//! `meridian check` and `meridian schema`.

use std::path::Path;

use region_config::{Checked, Config, Fault, Faults, Severity};
use serde_json::{Value, json};

use super::{exit::Exit, files, output::Output};

/// Checks a configuration and the files it names, and says everything that is wrong.
pub(super) fn check(dir: &Path, output: Output) -> Exit {
    let checked = match region_config::examine(dir) {
        Ok(checked) => checked,
        Err(faults) => return invalid(&faults, output),
    };
    output.draw(&checked.warnings);
    let files::Found { faults, warnings } = files::check(&checked.config);
    for warning in &warnings {
        output.note(&format!("meridian: warning: {warning}"));
    }
    if !faults.is_empty() {
        let found =
            json!({ "ok": false, "faults": checked.warnings, "more": 0, "files": faults, "file_warnings": warnings });
        let text = faults.join("\nmeridian: ");
        return output.complain(Exit::Config, &text, &found);
    }
    output.answer(|| good_json(&checked, &warnings), || good_text(dir, &checked.config));
    Exit::Done
}

/// Says what is wrong with a configuration.
pub(super) fn invalid(faults: &Faults, output: Output) -> Exit {
    output.draw(faults.list());
    let errors = faults.list().iter().filter(|it| it.severity() == Severity::Error).count() + faults.more();
    let s = if errors == 1 { "" } else { "s" };
    let details = json!({ "ok": false, "faults": faults.list(), "more": faults.more(), "files": [] });
    output.complain(Exit::Config, &format!("{errors} error{s} in the configuration"), &details)
}

/// Prints the schema; it is JSON in both forms.
pub(super) fn schema(output: Output) -> Exit {
    output.answer(region_config::schema, || format!("{:#}", region_config::schema()));
    Exit::Done
}

fn good_json(checked: &Checked, file_warnings: &[String]) -> Value {
    let Checked { config, warnings } = checked;
    let warnings: &[Fault] = warnings;
    json!({
        "ok": true,
        "faults": warnings,
        "file_warnings": file_warnings,
        "node": config.node.name,
        "region": config.node.region,
        "regions": config.regions.len(),
        "nodes": nodes(config),
        "zones": config.zones.len(),
        "sites": config.sites.len(),
        "fingerprint": fingerprint(config),
    })
}

fn good_text(dir: &Path, config: &Config) -> String {
    let (regions, nodes, sites) = (config.regions.len(), nodes(config), config.sites.len());
    let [r, n, s] = [regions, nodes, sites].map(|count| if count == 1 { "" } else { "s" });
    let pinned = config.sites.iter().filter(|site| site.pin.is_some()).count();
    format!(
        "{}: good\n  node {} in region {}\n  fleet of {nodes} node{n} in {regions} region{r}; {sites} site{s}, {pinned} pinned\n  \
         fingerprint of the fleet's part {}",
        dir.display(),
        config.node.name,
        config.node.region,
        fingerprint(config),
    )
}

fn nodes(config: &Config) -> usize {
    config.regions.iter().map(|region| region.nodes.len()).sum()
}

fn fingerprint(config: &Config) -> String {
    config.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect()
}
