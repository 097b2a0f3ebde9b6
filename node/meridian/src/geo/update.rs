//! Puts another edition of a database in the place of the one before: copied aside, checked, and swapped by renaming, so
//! that whoever reads the file sees the one or the other, whole. The one before is kept.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use region_config::{Geo, Region};

use super::{
    Base, Edition, GeoFault, Wanted,
    files::{accept, beside},
    gates::{self, Held},
};

/// Beside a database: the one before it.
const PREVIOUS: &str = "previous";
/// Beside a database: the one that is to come.
const NEW: &str = "new";

/// What is to be put where.
#[derive(Debug)]
pub struct Order<'a> {
    /// What the config says.
    pub geo: &'a Geo,
    /// Which of its databases it is about.
    pub wanted: Wanted,
    /// Where the regions are.
    pub regions: &'a [Region],
}

/// What is in place.
#[derive(Debug)]
pub struct Updated {
    /// The file.
    pub file: PathBuf,
    /// Where the one before is kept; none if there was none.
    pub previous: Option<PathBuf>,
    /// What it is now.
    pub edition: Edition,
    /// Whether it was that already: then nothing was replaced.
    pub unchanged: bool,
    /// What was wrong with what was replaced, and was therefore not kept.
    pub damaged: Option<GeoFault>,
    /// What spoke against it, if it was to be taken all the same.
    pub overruled: Vec<Held>,
}

/// Why nothing was put in place. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum UpdateFault {
    /// The config names no such file.
    #[error("the config names no {} under [geo]", match .0 { Wanted::Places => "`file`", Wanted::Networks => "`asn_file`" })]
    Unnamed(Wanted),
    /// There is nothing to go back to.
    #[error("there is no {}: nothing to go back to", .0.display())]
    NoPrevious(PathBuf),
    /// What is kept is what is in use.
    #[error("{} has the same contents as the one in use: nothing to go back to", .0.display())]
    SamePrevious(PathBuf),
    /// A file could not be read, written or renamed.
    #[error("{doing} {}: {cause}", path.display())]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// The new one is no usable database.
    #[error(transparent)]
    Geo(#[from] GeoFault),
    /// It is one, and suspicious.
    #[error("held back: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Held(Vec<Held>),
}

/// Puts a copy of `from` in place. With `force`, also if something speaks against it; running nodes then take it too.
///
/// # Errors
/// [`UpdateFault`]; the file is as it was.
pub fn update(order: &Order<'_>, from: &Path, force: Force) -> Result<Updated, UpdateFault> {
    let file = order.file()?;
    let new = beside(file, NEW);
    let done = copy(from, &new).and_then(|()| order.place(file, &new, force));
    // best effort, and not there any more if it was put in place: the next update writes over it
    let _ = fs::remove_file(&new);
    let done = done.map_err(|fault| fault.about(from))?;
    Ok(Updated { overruled: about(done.overruled, from), ..done })
}

/// Swaps the database with the one before it. That is an order: nothing that speaks against it holds it back.
///
/// # Errors
/// [`UpdateFault`]; the file is as it was.
pub fn rollback(order: &Order<'_>) -> Result<Updated, UpdateFault> {
    let previous = beside(order.file()?, PREVIOUS);
    if !previous.exists() {
        return Err(UpdateFault::NoPrevious(previous));
    }
    let done = update(order, &previous, Force::Yes)?;
    if done.unchanged { Err(UpdateFault::SamePrevious(previous)) } else { Ok(done) }
}

/// Whether what speaks against a database is overruled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It is not.
    No,
    /// It is.
    Yes,
}

impl Order<'_> {
    fn file(&self) -> Result<&Path, UpdateFault> {
        let named = match self.wanted {
            Wanted::Places => self.geo.file.as_deref(),
            Wanted::Networks => self.geo.asn_file.as_deref(),
        };
        named.ok_or(UpdateFault::Unnamed(self.wanted))
    }

    /// Only this database, at a path.
    fn at(&self, path: &Path) -> Geo {
        let path = Some(path.to_owned());
        match self.wanted {
            Wanted::Places => Geo { file: path, asn_file: None, ..self.geo.clone() },
            Wanted::Networks => Geo { file: None, asn_file: path, ..self.geo.clone() },
        }
    }

    /// Checks the new file and renames it into place.
    fn place(&self, file: &Path, new: &Path, force: Force) -> Result<Updated, UpdateFault> {
        let newer = Base::open(&self.at(new))?;
        let edition = self.edition(&newer).ok_or(UpdateFault::Unnamed(self.wanted))?;
        let current = Base::open(&self.at(file));
        let held = match &current {
            Ok(current) => gates::against(current, &newer, self.regions),
            // what cannot be used is no measure
            Err(_) => Vec::new(),
        };
        if !held.is_empty() && force == Force::No {
            return Err(UpdateFault::Held(held));
        }
        if force == Force::Yes {
            // before the swap: a node that sees the new file must find the note
            accept(file, &edition.sum).map_err(disk("writing the note beside", file))?;
        }
        let kept = Some(beside(file, PREVIOUS)).filter(|previous| previous.exists());
        let mut updated = Updated {
            file: file.to_owned(),
            previous: kept,
            edition,
            unchanged: false,
            damaged: None,
            overruled: held,
        };
        match current {
            // kept in its own place, it would take that of the one before it
            Ok(current) if self.edition(&current).is_some_and(|old| old.sum == updated.edition.sum) => {
                return Ok(Updated { unchanged: true, ..updated });
            }
            Ok(_) => updated.previous = Some(keep(file)?),
            // nothing to go back to; what was good before it still is
            Err(fault) => updated.damaged = Some(fault).filter(|_| file.exists()),
        }
        fs::rename(new, file).map_err(disk("renaming to", file))?;
        sync_folder(file).map_err(disk("writing the folder of", file))?;
        Ok(updated)
    }

    fn edition(&self, base: &Base) -> Option<Edition> {
        base.editions().iter().rfind(|edition| edition.wanted == self.wanted).cloned()
    }
}

impl UpdateFault {
    /// The same with the name of the file that the operator gave in place of its copy's.
    fn about(self, from: &Path) -> Self {
        let from = from.to_owned();
        match self {
            Self::Geo(GeoFault::Read { cause, .. }) => Self::Disk { doing: "reading", path: from, cause },
            Self::Geo(GeoFault::Database { cause, .. }) => Self::Geo(GeoFault::Database { path: from, cause }),
            Self::Held(held) => Self::Held(about(held, &from)),
            other => other,
        }
    }
}

fn about(held: Vec<Held>, from: &Path) -> Vec<Held> {
    held.into_iter().map(|held| Held { file: from.display().to_string(), ..held }).collect()
}

/// Copies a file. What is wrong with it is told apart from what is wrong with the place it goes to.
fn copy(from: &Path, new: &Path) -> Result<(), UpdateFault> {
    let mut source = File::open(from).map_err(disk("reading", from))?;
    let meta = source.metadata().map_err(disk("reading", from))?;
    if meta.is_dir() {
        return Err(disk("reading", from)(io::ErrorKind::IsADirectory.into()));
    }
    let target = File::create(new).and_then(|mut target| {
        io::copy(&mut source, &mut target)?;
        target.sync_all()
    });
    target.map_err(disk("copying to", new))
}

/// Gives the file a second name, under which it stays. The first name is never without a file.
fn keep(file: &Path) -> Result<PathBuf, UpdateFault> {
    let (previous, aside) = (beside(file, PREVIOUS), beside(file, "previous.new"));
    match fs::remove_file(&aside) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(disk("removing", &aside)(cause)),
        _ => {}
    }
    // a file system without second names gets a copy
    fs::hard_link(file, &aside).or_else(|_| fs::copy(file, &aside).map(drop)).map_err(disk("keeping", file))?;
    fs::rename(&aside, &previous).map_err(disk("renaming to", &previous))?;
    Ok(previous)
}

fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn disk(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UpdateFault {
    let path = path.to_owned();
    move |cause| UpdateFault::Disk { doing, path, cause }
}
