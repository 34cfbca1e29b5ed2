//! Running the checker: to the end, or to the shortest counterexample.

use std::{collections::HashSet, fmt::Debug, hash::Hash};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// Every state there is. Fails with the steps that lead to a violation of one of `always`, and if something that
/// must sometimes happen never did. Returns how many states there are.
pub(crate) fn nothing_found<M>(name: &str, model: M, always: &[&'static str]) -> usize
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Debug + Hash + Clone + PartialEq + Send + Sync + 'static,
    M::Action: Debug + Clone + PartialEq + Send + Sync + 'static,
{
    let sometimes =
        model.properties().into_iter().filter(|property| property.expectation == Expectation::Sometimes);
    let sometimes: Vec<_> = sometimes.map(|property| property.name).collect();
    let checker = model.checker().spawn_bfs().join();
    let states = checker.unique_state_count();
    eprintln!("{name}: {states} states, {} steps deep at most", checker.max_depth());
    let mut found = checker.discoveries();
    for property in always {
        if let Some(path) = found.remove(property) {
            panic!("{name}: \"{property}\" is violated by {:#?}", path.into_actions());
        }
    }
    for property in sometimes {
        assert!(found.contains_key(property), "{name}: \"{property}\" never happens");
    }
    assert!(checker.is_done(), "{name}: it was not looked at everything");
    states
}

/// The shortest run that violates the property. Fails if there is none.
pub(crate) fn counterexample<M>(name: &str, model: M, property: &'static str) -> Vec<M::Action>
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Debug + Hash + Clone + PartialEq + Send + Sync + 'static,
    M::Action: Debug + Clone + PartialEq + Send + Sync + 'static,
{
    let broken =
        model.properties().into_iter().find(|broken| broken.name == property).expect("a property of it");
    let (condition, again) = (broken.condition, model.clone());
    let wanted = HasDiscoveries::AnyOf(HashSet::from([property]).into_iter().collect());
    let checker = model.checker().finish_when(wanted).spawn_bfs().join();
    let path =
        checker.discovery(property).unwrap_or_else(|| panic!("{name}: \"{property}\" was not violated"));
    // What came after the violation says nothing of it.
    let path = path.into_vec().into_iter();
    let steps: Vec<_> =
        path.take_while(|(state, _)| condition(&again, state)).filter_map(|(_, step)| step).collect();
    eprintln!("{name}: \"{property}\" is violated after {} states by", checker.unique_state_count());
    for step in &steps {
        eprintln!("    {step:?}");
    }
    steps
}
