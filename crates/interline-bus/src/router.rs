//! Which handler takes which type.

use std::sync::Arc;

use interline_core::{Error, ErrorKind, Kind, Pattern, Result};

use crate::handler::Route;

/// The handlers of a group: the first whose pattern fits takes the event, exact types first.
#[derive(Debug)]
pub(crate) struct Router {
    routes: Vec<Route>,
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
        Ok(Self { routes })
    }

    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    fn find(&self, ty: &str) -> Option<usize> {
        self.routes
            .iter()
            .position(|route| route.pattern.matches(ty))
    }

    /// The patterns with their handlers' names, in the order of matching.
    pub(crate) fn describe(&self) -> impl Iterator<Item = (&Pattern, &'static str)> {
        self.routes.iter().map(|route| (&route.pattern, route.name))
    }
}

/// Remembers which route a kind takes: events of one kind share it, so one comparison of pointers
/// replaces the search.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    known: Vec<(Arc<Kind>, Option<usize>)>,
}

impl RouteCache {
    pub(crate) fn find(&mut self, router: &Router, kind: &Arc<Kind>) -> Option<usize> {
        const MOST: usize = 64;
        if let Some((_, route)) = self
            .known
            .iter()
            .find(|(known, _)| Arc::ptr_eq(known, kind))
        {
            return *route;
        }
        let route = router.find(kind.ty());
        if self.known.len() == MOST {
            self.known.swap_remove(0);
        }
        self.known.push((Arc::clone(kind), route));
        route
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
        assert!(Router::new(vec![]).is_err());
        assert!(Router::new(vec![route("a", "x"), route("a", "y")]).is_err());
    }

    #[test]
    fn the_cache_says_what_the_search_says() {
        let router = Router::new(vec![route("a.*", "a")]).unwrap();
        let mut cache = RouteCache::default();
        for ty in ["a.b", "b", "a.b"] {
            let kind = Arc::new(Kind::new("/", ty.to_owned()).unwrap());
            assert_eq!(cache.find(&router, &kind), router.find(ty));
            assert_eq!(cache.find(&router, &kind), router.find(ty));
        }
    }
}
