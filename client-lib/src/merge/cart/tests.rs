//! The laws of the cart, and the stories that it exists for.

use proptest::prelude::*;

use super::*;
use crate::kv::version::Version;

fn version(cart: &Cart) -> Version {
    Version {
        value: serde_json::to_vec(cart).unwrap().into(),
        content_type: None,
        meta: BTreeMap::new(),
        last_modified: None,
        etag: None,
    }
}

fn reread(carts: &[&Cart]) -> Cart {
    Cart::of(&Siblings::new(carts.iter().map(|cart| version(cart)).collect())).unwrap()
}

#[test]
fn a_deleted_item_does_not_come_back_from_a_sibling() {
    let (phone, laptop) = (CartActor::new(), CartActor::new());
    let mut base = Cart::default();
    base.add(&phone, "book", 1);
    base.add(&phone, "lamp", 2);
    let (mut left, mut right) = (reread(&[&base]), reread(&[&base]));
    assert!(left.remove("book"));
    right.add(&laptop, "pen", 1);
    let merged = reread(&[&left, &right]);
    assert_eq!(merged.items().collect::<Vec<_>>(), [("lamp", 2), ("pen", 1)]);
}

#[test]
fn an_add_that_the_remover_had_not_seen_wins() {
    let (phone, laptop) = (CartActor::new(), CartActor::new());
    let mut base = Cart::default();
    base.add(&phone, "book", 1);
    let (mut left, mut right) = (base.clone(), base.clone());
    left.remove("book");
    right.add(&laptop, "book", 3);
    assert_eq!(reread(&[&left, &right]).quantity("book"), 3);
}

#[test]
fn one_actor_may_edit_twice_from_the_same_read() {
    let actor = CartActor::new();
    let mut base = Cart::default();
    base.add(&actor, "book", 1);
    let (mut left, mut right) = (base.clone(), base.clone());
    left.add(&actor, "lamp", 1);
    right.add(&actor, "pen", 1);
    let merged = reread(&[&left, &right]);
    assert_eq!(merged.items().count(), 3, "neither edit may look like the other's removal");
}

#[test]
fn set_replaces_what_was_seen_and_zero_removes() {
    let actor = CartActor::new();
    let mut cart = Cart::default();
    cart.add(&actor, "book", 4);
    cart.set(&actor, "book", 2);
    assert_eq!(cart.quantity("book"), 2);
    cart.set(&actor, "book", 0);
    assert_eq!(cart.items().count(), 0);
}

#[test]
fn what_is_no_cart_is_refused() {
    for text in ["[]", "{}", r#"{"cart":2,"seen":{},"items":{}}"#, r#"{"book":1}"#] {
        let other = Version { value: text.into(), ..version(&Cart::default()) };
        assert!(matches!(Cart::of(&Siblings::new(vec![other])), Err(Error::Merge(_))), "{text}");
    }
}

#[test]
fn the_json_form_is_the_golden_one() {
    let actor = CartActor { name: "a1".to_owned(), next: AtomicU64::new(1) };
    let mut cart = Cart::default();
    cart.add(&actor, "book", 1);
    cart.add(&actor, "lamp", 2);
    cart.remove("book");
    let text = serde_json::to_string(&cart).unwrap();
    assert_eq!(text, r#"{"cart":1,"seen":{"a1":[[1,2]]},"items":{"lamp":[["a1",2,2]]}}"#);
}

/// A step of a random history over several replicas of one cart.
#[derive(Debug, Clone)]
enum Step {
    Add { replica: usize, actor: usize, item: u8 },
    Remove { replica: usize, item: u8 },
    Merge { from: usize, into: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..3usize, 0..2usize, 0..4u8)
            .prop_map(|(replica, actor, item)| Step::Add { replica, actor, item }),
        2 => (0..3usize, 0..4u8).prop_map(|(replica, item)| Step::Remove { replica, item }),
        2 => (0..3usize, 0..3usize).prop_map(|(from, into)| Step::Merge { from, into }),
    ];
    prop::collection::vec(step, 0..40)
}

/// Events and removals as plain sets that only grow: obviously right, and large.
#[derive(Debug, Clone, Default)]
struct Model {
    adds: BTreeSet<(u8, u64)>,
    removed: BTreeSet<(u8, u64)>,
}

impl Model {
    fn quantities(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (item, _) in self.adds.difference(&self.removed) {
            *all.entry(item.to_string()).or_default() += 1;
        }
        all
    }
}

fn run(steps: &[Step]) -> (Vec<Cart>, Vec<Model>) {
    let actors = [CartActor::new(), CartActor::new()];
    let mut carts = vec![Cart::default(); 3];
    let mut models = vec![Model::default(); 3];
    for (id, step) in (0u64..).zip(steps) {
        match *step {
            Step::Add { replica, actor, item } => {
                carts[replica].add(&actors[actor], &item.to_string(), 1);
                models[replica].adds.insert((item, id));
            }
            Step::Remove { replica, item } => {
                carts[replica].remove(&item.to_string());
                let model = &mut models[replica];
                let shown = model.adds.iter().filter(|(name, _)| *name == item);
                model.removed.extend(shown);
            }
            Step::Merge { from, into } => {
                let (cart, model) = (carts[from].clone(), models[from].clone());
                carts[into].merge(&cart);
                models[into].adds.extend(model.adds);
                models[into].removed.extend(model.removed);
            }
        }
    }
    (carts, models)
}

fn shown(cart: &Cart) -> BTreeMap<String, u64> {
    cart.items().map(|(item, quantity)| (item.to_owned(), quantity)).collect()
}

fn joined(left: &Cart, right: &Cart) -> Cart {
    let mut merged = left.clone();
    merged.merge(right);
    merged
}

proptest! {
    #[test]
    fn carts_behave_as_the_model(steps in steps()) {
        let (carts, models) = run(&steps);
        for (cart, model) in carts.iter().zip(&models) {
            prop_assert_eq!(shown(cart), model.quantities());
        }
    }

    #[test]
    fn merging_is_a_join(steps in steps()) {
        let (carts, _) = run(&steps);
        let [a, b, c] = [&carts[0], &carts[1], &carts[2]];
        prop_assert_eq!(joined(a, b), joined(b, a));
        prop_assert_eq!(joined(&joined(a, b), c), joined(a, &joined(b, c)));
        prop_assert_eq!(&joined(a, a), a);
    }
}
