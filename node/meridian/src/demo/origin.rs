//! The origins: programs from npm that nobody here wrote, and the data they serve.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use super::{DemoFault, fleet::failed};

const JSON_SERVER: &str = "node_modules/json-server/lib/cli/bin.js";
const SERVE: &str = "node_modules/serve/build/main.js";

/// One origin.
#[derive(Debug)]
pub(super) struct Program {
    /// What it is called.
    pub(super) name: &'static str,
    /// Where it listens.
    pub(super) listen: SocketAddr,
    /// The data it serves as JSON; none means the static pages.
    data: Option<&'static str>,
    folder: PathBuf,
}

/// The origins of the example's sites, on 127.`network`.9.1.
pub(super) fn programs(folder: &Path, network: u8) -> Result<[Program; 3], DemoFault> {
    let installed = [JSON_SERVER, SERVE].iter().all(|program| folder.join(program).is_file());
    let absolute = folder.canonicalize().ok().filter(|_| installed);
    let folder = absolute.ok_or_else(|| DemoFault::NoOrigin(folder.to_owned()))?;
    let program = |name, port, data| Program {
        name,
        listen: SocketAddr::from(([127, network, 9, 1], port)),
        data,
        folder: folder.clone(),
    };
    Ok([
        program("origin-api", 3000, Some("shop.json")),
        program("origin-pages", 3001, None),
        program("origin-care", 3002, Some("care.json")),
    ])
}

impl Program {
    /// How to run it. Data is copied into the work folder, since clients may change it.
    pub(super) fn command(&self, dir: &Path) -> Result<Command, DemoFault> {
        let mut command = Command::new("node");
        command.current_dir(&self.folder);
        let (ip, port) = (self.listen.ip().to_string(), self.listen.port().to_string());
        let Some(data) = self.data else {
            // no requests in the log, no compression: that is the edge's business
            command.args([SERVE, "--no-request-logging", "--no-clipboard", "--no-compression", "--config"]);
            command.arg(self.folder.join("serve.json")).args(["--listen", &format!("tcp://{ip}:{port}")]);
            return Ok(command);
        };
        let (from, to) = (self.folder.join(data), dir.join("origin").join(data));
        fs::create_dir_all(dir.join("origin")).map_err(failed("making", &dir.join("origin")))?;
        fs::copy(&from, &to).map_err(failed("copying", &from))?;
        command.arg(JSON_SERVER).arg(to).args(["--host", &ip, "--port", &port, "--quiet"]);
        command.args(["--middlewares", "headers.cjs", "--snapshots"]).arg(dir.join("origin"));
        Ok(command)
    }
}
