//! Protects workers from fields that are made to be looked at for long.

use super::*;

#[test]
fn a_field_full_of_commands_is_refused_before_it_keeps_a_worker() {
    let strict = filter("detect = [\"command\"]\n");
    for unit in ["$(", "$(a ", "<(", "$(x$(y"] {
        let text = unit.repeat((1 << 20) / unit.len());
        steps::take();
        let objection = examined(&strict, PlaceKind::Body, &text).unwrap();
        let taken = steps::take() / text.len();
        assert_eq!(objection.reason, Reason::FieldComplex, "{unit:?}: {}", objection.detail);
        assert!(taken <= 150, "{unit:?}: {taken} per byte");
    }
    for unit in
        [";a", "a|", "\na", "; ", "| a ", "&&a\n", "$(document).ready(x); ", "| cell | cell |\n"]
    {
        let text = unit.repeat((1 << 20) / unit.len());
        steps::take();
        assert!(examined(&strict, PlaceKind::Body, &text).is_none(), "{unit:?}");
        let taken = steps::take() / text.len();
        assert!(taken <= 300, "{unit:?}: {taken} per byte");
    }
    let spared = filter(
        "detect = [\"command\"]\nexcept = [{ field = \"body.description\", detect = [\"command\"], why = \"scripts\" }]\n",
    );
    assert!(examined(&spared, PlaceKind::Body, &"$(".repeat(1 << 19)).is_none());
}
