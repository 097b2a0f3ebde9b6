//! The door through which a simulation stands in for the world: clocks, chance, disks' threads, the mesh. Compiled with
//! the feature `simulation` only, and without effect on a thread that has entered no world.
//!
//! A world belongs to a node. It is entered with [`inside`]; tasks that are started inside it stay in it.

use std::{
    cell::RefCell,
    fmt::Debug,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use region_config::{JurisdictionId, NodeId};
use rules::purge::Event;
use tokio::sync::mpsc;

use crate::peers::{Kind, Mesh};

/// What a node takes for the world.
pub trait World: Debug + Send + Sync {
    /// Its wall clock, in ms since the Unix epoch.
    fn unix_ms(&self) -> u64;

    /// Its monotonic clock, in ms.
    fn monotonic_ms(&self) -> u64;

    /// Its random numbers.
    fn chance(&self, bytes: &mut [u8]);

    /// How long a task is kept waiting at a place of the ledger's code.
    fn pause(&self, place: Place) -> Duration;

    /// A planted fault: what is promised to be on disk is said before it is.
    fn is_hasty(&self) -> bool;

    /// The node has put an event into its order.
    fn applied(&self, event: &Event);
}

/// Where a simulation may keep a task waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before a change is on disk.
    BeforeDisk,
    /// When it is on disk, and nobody knows yet.
    AfterDisk,
    /// Before events are put on a line.
    Send,
}

/// What carries the lines of a simulated node's ledger.
#[derive(Debug, Clone)]
pub enum Carrier {
    /// Lines that the simulation makes up.
    Links(Arc<dyn Links>),
    /// The mesh itself, over a socket that the simulation makes up ([`Mesh::simulated`]).
    Mesh(Arc<Mesh>),
}

/// Lines in place of a mesh.
pub trait Links: Debug + Send + Sync {
    /// Opens a line. None if nobody answers.
    fn open<'a>(&'a self, node: &'a NodeId, kind: Kind) -> BoxFuture<'a, Option<Ends>>;
}

/// One end of a line.
#[derive(Debug)]
pub struct Ends {
    /// The direction away from here.
    pub out: Box<dyn Out>,
    /// The direction to here; it ends with the line.
    pub into: mpsc::Receiver<Bytes>,
    /// Who is at the other end.
    pub peer: NodeId,
    /// What that one is certified for.
    pub jurisdiction: JurisdictionId,
}

/// Where a node puts frames.
pub trait Out: Debug + Send {
    /// Puts one frame on the line, when there is room. False if the line has ended.
    fn frame(&mut self, bytes: Bytes) -> BoxFuture<'_, bool>;
}

thread_local! {
    static WORLD: RefCell<Option<Arc<dyn World>>> = const { RefCell::new(None) };
}

/// The world that the running task is in.
#[must_use]
pub fn world() -> Option<Arc<dyn World>> {
    WORLD.with_borrow(Clone::clone)
}

/// Runs a task in a world.
pub fn inside<F: Future>(world: Arc<dyn World>, task: F) -> Inside<F> {
    Inside { world: Some(world), task: Box::pin(task) }
}

/// Runs a task in the world of the one that starts it.
pub(crate) fn inherited<F: Future>(task: F) -> Inside<F> {
    Inside { world: world(), task: Box::pin(task) }
}

/// A task in a world.
#[derive(Debug)]
pub struct Inside<F> {
    world: Option<Arc<dyn World>>,
    task: Pin<Box<F>>,
}

impl<F: Future> Future for Inside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let outside = WORLD.replace(self.world.clone());
        let polled = self.task.as_mut().poll(context);
        WORLD.set(outside);
        polled
    }
}

/// Keeps the task waiting, if the world wants that.
pub(crate) async fn pause(place: Place) {
    let pause = world().map_or(Duration::ZERO, |world| world.pause(place));
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}
