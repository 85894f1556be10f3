//! A transport with the publisher and the reader of memory and the shared feed and control.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use interline_core::{
    Admin as _, Capabilities, Group, Pattern, PublisherOptions, ReadSpec, Result, State,
    SubscribeSpec, Topic, TopicSpec, Transport as _, check_start,
};
use interline_memory::native;
use interline_transport::lease::{Control, Feed, Leased, Timing, WeakControl, subscribe};

use crate::admin::Admin;
use crate::source::Source;
use crate::store::{Groups, Store};

#[derive(Debug)]
pub(crate) struct Transport {
    memory: interline_memory::Transport,
    groups: Arc<Groups>,
    members: Mutex<Vec<WeakControl>>,
}

impl Transport {
    pub(crate) fn new(memory: interline_memory::Transport, groups: Arc<Groups>) -> Self {
        Self {
            memory,
            groups,
            members: Mutex::default(),
        }
    }

    fn members(&self) -> std::sync::MutexGuard<'_, Vec<WeakControl>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Home {
    memory: interline_memory::Transport,
    groups: Arc<Groups>,
}

impl Leased for Home {
    type Store = Store;
    type Source = Source;

    fn scheme(&self) -> &'static str {
        "memory"
    }

    async fn topics(&self, spec: &SubscribeSpec) -> Result<Vec<Topic>> {
        let topics = self.memory.admin().topics(&Pattern::new("*")?).await?;
        let topics = topics.into_iter().map(|info| info.topic);
        Ok(topics.filter(|topic| spec.covers(topic)).collect())
    }

    fn store(&self, group: &Group, topic: &Topic) -> Store {
        Store {
            memory: self.memory.clone(),
            groups: Arc::clone(&self.groups),
            group: group.clone(),
            topic: topic.clone(),
        }
    }

    fn source(&self) -> Source {
        Source::new(self.memory.clone())
    }
}

impl interline_core::Transport for Transport {
    type Publisher = native::Publisher;
    type Feed = Feed;
    type Control = Control;
    type Reader = native::Reader;
    type Admin = Admin;

    fn capabilities(&self) -> Capabilities {
        self.memory.capabilities()
    }

    fn state(&self) -> State {
        self.memory.state()
    }

    async fn publisher(&self, options: PublisherOptions) -> Result<native::Publisher> {
        self.memory.publisher(options).await
    }

    async fn subscribe(&self, spec: SubscribeSpec) -> Result<(Feed, Control)> {
        check_start(&spec.start, &self.capabilities())?;
        if let State::Failed { .. } = self.state() {
            return Err(interline_core::Error::closed("subscribe").on("memory"));
        }
        let named = spec.topics.iter().filter_map(Pattern::as_exact);
        let specs = named.map(|name| Ok(TopicSpec::new(Topic::system(name)?)));
        let specs = specs.collect::<Result<Vec<_>>>()?;
        self.memory.admin().ensure(specs).await?;
        let home = Home {
            memory: self.memory.clone(),
            groups: Arc::clone(&self.groups),
        };
        let (feed, control) = subscribe(home, spec, Timing::default()).await?;
        self.members().push(control.downgrade());
        Ok((feed, control))
    }

    async fn read(&self, spec: ReadSpec) -> Result<native::Reader> {
        self.memory.read(spec).await
    }

    fn admin(&self) -> Admin {
        Admin {
            memory: self.memory.clone(),
            groups: Arc::clone(&self.groups),
        }
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        use interline_core::Control as _;
        let members = std::mem::take(&mut *self.members());
        for control in members.iter().filter_map(WeakControl::upgrade) {
            control.close(deadline).await?;
        }
        self.memory.close(deadline).await
    }
}
