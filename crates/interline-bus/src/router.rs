//! Which handler takes which type.

use std::array;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use interline_core::{Error, ErrorKind, Kind, Pattern, Result};

use crate::handler::Route;

/// The handlers of a group: the first whose pattern fits takes the event, exact types first.
#[derive(Debug)]
pub(crate) struct Router {
    routes: Vec<Route>,
    /// Where the handlers of exact types stand; the globs stand behind them.
    exact: HashMap<Box<str>, usize, FixedState>,
}

impl Router {
    /// Puts exact types before globs; within each the order of adding is kept.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for no handler at all, or two for one pattern.
    pub(crate) fn new(mut routes: Vec<Route>) -> Result<Self> {
        if routes.is_empty() {
            return Err(
                Error::new(ErrorKind::Config, "start", "the group has no handler")
                    .remedy("add one with `.on(handler)`"),
            );
        }
        routes.sort_by_key(|route| route.pattern.as_exact().is_none());
        for (at, route) in routes.iter().enumerate() {
            if routes[..at]
                .iter()
                .any(|other| other.pattern == route.pattern)
            {
                return Err(Error::new(
                    ErrorKind::Config,
                    "start",
                    format!("the group has two handlers for `{}`", route.pattern),
                )
                .remedy("give each type one handler per group, or start another group"));
            }
        }
        let exact = routes.iter().enumerate();
        let exact = exact.filter_map(|(at, route)| Some((route.pattern.as_exact()?.into(), at)));
        Ok(Self {
            exact: exact.collect(),
            routes,
        })
    }

    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    fn find(&self, ty: &str) -> Option<usize> {
        let globs = || {
            let mut globs = self.routes.iter().enumerate().skip(self.exact.len());
            let found = globs.find(|(_, route)| route.pattern.matches(ty));
            found.map(|(at, _)| at)
        };
        self.exact.get(ty).copied().or_else(globs)
    }

    /// The patterns with their handlers' names, in the order of matching.
    pub(crate) fn describe(&self) -> impl Iterator<Item = (&Pattern, &'static str)> {
        self.routes.iter().map(|route| (&route.pattern, route.name))
    }
}

/// Remembers which route a kind takes: events of one kind share it, so one comparison of pointers
/// replaces the search. A kind has one place, so that many kinds cost no more than few.
#[derive(Debug)]
pub(crate) struct RouteCache([Option<(Arc<Kind>, Option<usize>)>; Self::PLACES]);

impl Default for RouteCache {
    fn default() -> Self {
        Self(array::from_fn(|_| None))
    }
}

impl RouteCache {
    const PLACES: usize = 64;

    pub(crate) fn find(&mut self, router: &Router, kind: &Arc<Kind>) -> Option<usize> {
        // Kinds that were made one after the other lie next to each other.
        let at = Arc::as_ptr(kind).addr() / size_of::<Kind>() % Self::PLACES;
        match &self.0[at] {
            Some((known, route)) if Arc::ptr_eq(known, kind) => *route,
            _ => {
                let route = router.find(kind.ty());
                self.0[at] = Some((Arc::clone(kind), route));
                route
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(pattern: &str, name: &'static str) -> Route {
        Route {
            pattern: Pattern::new(pattern).unwrap(),
            name,
            limit: None,
            batch: None,
            slot: Box::new(|| unreachable!("no slot is made")),
        }
    }

    #[test]
    fn exact_types_come_before_globs() {
        let router = Router::new(vec![
            route("*", "rest"),
            route("github.**", "github"),
            route("github.push", "push"),
        ])
        .unwrap();
        let name = |ty: &str| router.find(ty).map(|at| router.routes()[at].name);
        assert_eq!(name("github.push"), Some("push"));
        assert_eq!(name("github.star"), Some("rest"));
        assert_eq!(name("other"), Some("rest"));
        assert!(Router::new(vec![]).is_err());
        assert!(Router::new(vec![route("a", "x"), route("a", "y")]).is_err());
    }

    #[test]
    fn the_cache_says_what_the_search_says() {
        let router = Router::new(vec![route("a.*", "a"), route("b.1", "b")]).unwrap();
        let mut cache = RouteCache::default();
        let types = (0..200).map(|number| format!("{}.{number}", ["a", "b", "c"][number % 3]));
        let kinds = types.map(|ty| Arc::new(Kind::new("/", ty).unwrap()));
        let kinds: Vec<_> = kinds.collect();
        for kind in kinds.iter().flat_map(|kind| [kind, kind]).chain(&kinds) {
            assert_eq!(cache.find(&router, kind), router.find(kind.ty()));
        }
        let found = |name: &str| router.find(name).map(|at| router.routes()[at].name);
        assert_eq!(
            [found("a.7"), found("b.1"), found("b.2")],
            [Some("a"), Some("b"), None]
        );
    }
}
