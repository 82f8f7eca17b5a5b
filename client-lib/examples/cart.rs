//! A shopping cart that two devices fill at the same time.
//!
//! ```text
//! atoll dev &
//! cargo run --example cart -- http://127.0.0.1:7700
//! ```
//! Both devices start from the same read, so their puts are concurrent and both are kept. The next
//! update merges them: what one device added is there, and what the other removed stays removed.

#![expect(clippy::print_stdout, reason = "the example talks to people")]

use atoll_client::merge::{Cart, CartActor};
use atoll_client::{Bucket, Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let endpoint = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7700".to_owned());
    let client = Client::builder().endpoints([endpoint]).build()?;
    let carts = client.bucket("carts");
    let (phone, laptop) = (CartActor::new(), CartActor::new());

    carts.delete("alice").await?;
    carts
        .update("alice", |versions| {
            let mut cart = Cart::of(versions)?;
            cart.add(&phone, "book", 1);
            cart.add(&phone, "lamp", 1);
            cart.into_update()
        })
        .await?;
    show("at the beginning", &carts).await?;

    // Two devices, one read: neither sees what the other does.
    let read = carts.get("alice").await?;
    let mut on_phone = Cart::of(&read.versions)?;
    on_phone.remove("book");
    let mut on_laptop = Cart::of(&read.versions)?;
    on_laptop.add(&laptop, "pen", 3);
    for cart in [&on_phone, &on_laptop] {
        let value = serde_json::to_vec(cart).map_err(|error| Error::Merge(error.to_string()))?;
        carts
            .put("alice", value)
            .content_type("application/json")
            .context(read.context.clone())
            .await?;
    }
    show("after two concurrent puts", &carts).await?;

    // Any later update merges what it finds, and leaves one version.
    carts.update("alice", |versions| Cart::of(versions)?.into_update()).await?;
    show("after the merge", &carts).await?;

    let merged = Cart::of(&carts.get("alice").await?.versions)?;
    assert_eq!(merged.quantity("book"), 0, "a removed item does not come back");
    assert_eq!(merged.quantity("pen"), 3, "an added item is not lost");
    Ok(())
}

async fn show(when: &str, carts: &Bucket) -> Result<(), Error> {
    let read = carts.get("alice").await?;
    println!("{when}: {} version(s)", read.versions.len());
    for version in &read.versions {
        let cart: Cart = version.json()?;
        let items: Vec<String> = cart.items().map(|(item, n)| format!("{n} {item}")).collect();
        println!("    {}", items.join(", "));
    }
    Ok(())
}
