//! The story that `entail demo` tells: one delete through three databases, a stale delete, a dead letter, and a load if asked for.
//!
//! Everything is waited for by a condition with a deadline, counted from what the worker reports and what the databases hold, and compared
//! with what was put in; a story that does not go as told is an error. Knows nothing of the command line.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::error::KafkaError;
use tokio::time::Instant;

use crate::sink::SinkError;
use crate::stage::StageError;
use crate::startup::StartError;
use crate::worker::RunError;

mod acts;
mod load;
mod scene;
mod tree;
mod world;

pub use load::{Load, Loaded, MAX_CUSTOMERS};
pub use scene::{Cascaded, Letter, Scene, Seeded, Stale};
pub use tree::{Branch, Tree};

/// What is to be shown.
#[derive(Debug, Clone)]
pub struct Request {
    /// An empty directory for the files.
    pub dir: PathBuf,
    /// A load after the story.
    pub load: Option<Load>,
}

impl Load {
    /// A load of this many customers a second for this long.
    #[must_use]
    pub fn new(rate: NonZeroU32, length: Duration) -> Self {
        Self { rate, length }
    }
}

/// Why the story was not told to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file of the demo.
    #[error("cannot write {path}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Files, feeds or broker.
    #[error("the stage cannot be set")]
    Stage(#[from] StageError),
    /// The worker cannot start.
    #[error("the worker cannot start")]
    Start(#[from] StartError),
    /// The broker refuses a record of ours.
    #[error("the in-process broker")]
    Kafka(#[from] KafkaError),
    /// A step did not happen in its time.
    #[error("this did not happen within {within:?}: {what}")]
    Late {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        within: Duration,
    },
    /// A step went another way.
    #[error("{what}: {wanted} were to be seen, and it was {found}")]
    NotAsTold {
        /// What was counted.
        what: &'static str,
        /// What there should be.
        wanted: u64,
        /// What there is.
        found: u64,
    },
    /// The worker ended in the middle.
    #[error("the worker ended before its time")]
    WorkerEnded,
    /// The worker cannot go on.
    #[error("the worker cannot go on")]
    Run(#[source] RunError),
    /// A partition or reference was shut.
    #[error("the worker halted a partition, which this story does not tell")]
    Halted,
    /// A database at the end.
    #[error("a database cannot be read")]
    Sink(#[from] SinkError),
}

/// Tells the story, scene by scene. `progress` hears of the load: customers done, and all.
///
/// # Errors
/// At the first step that does not go as told; worker, feeds and broker are stopped in any case.
pub async fn run(request: &Request, tell: &mut dyn FnMut(&Scene), progress: &dyn Fn(u64, u64)) -> Result<(), DemoError> {
    let began = Instant::now();
    tell(&Scene::Opening { rules: world::RULES });
    let mut world = world::World::open(&request.dir).await?;
    let told = story(&mut world, request, began, tell, progress).await;
    let ended = world.finish().await;
    match (told, ended) {
        (Ok(()), Ok(accounts)) => {
            tell(&Scene::Accounts(accounts));
            Ok(())
        }
        (Ok(()) | Err(DemoError::WorkerEnded), Err(error)) | (Err(error), _) => Err(error),
    }
}

async fn story(
    world: &mut world::World,
    request: &Request,
    began: Instant,
    tell: &mut dyn FnMut(&Scene),
    progress: &dyn Fn(u64, u64),
) -> Result<(), DemoError> {
    tell(&Scene::Seeded(acts::seed(world, began).await?));
    tell(&Scene::Cascade(acts::delete(world).await?));
    tell(&Scene::Stale(acts::stale_delete(world).await?));
    tell(&Scene::Letter(acts::dead_letter(world).await?));
    if let Some(load) = &request.load {
        tell(&Scene::LoadBegins(*load));
        tell(&Scene::Load(load::run(world, load, progress).await?));
    }
    Ok(())
}

fn same(what: &'static str, wanted: u64, found: u64) -> Result<(), DemoError> {
    if wanted == found { Ok(()) } else { Err(DemoError::NotAsTold { what, wanted, found }) }
}
