#![doc = include_str!("../README.md")]

use std::fmt;
use std::time::Duration;

use interline::prelude::*;
use interline::{DeadLetters, EventId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "shop.order.placed", topic = "orders", key = customer)]
struct OrderPlaced {
    order: u64,
    customer: String,
    cents: u64,
}

#[derive(Serialize, Deserialize, Event)]
#[event(type = "shop.order.paid", topic = "payments")]
struct OrderPaid {
    order: u64,
}

async fn charge(e: OrderPlaced, State(bank): State<Bank>, cx: Context) -> Handled {
    match bank.charge(cx.event_id(), e.cents, cx.attempt()) {
        Err(BankError::CardDeclined) => return Err("declined".permanent()), // dead letter, with this cause
        other => other?, // any error: retried, in order
    };
    cx.publish(OrderPaid { order: e.order }).await?; // stable id, caused_by set
    Ok(())
}

#[tokio::main]
async fn main() -> interline::Result<()> {
    let url = std::env::var("INTERLINE_URL").unwrap_or_else(|_| "memory://shop".to_owned());
    let bus = Bus::new(interline::connect(url).await?).source("/shop");
    let (died, mut dead) = unbounded_channel::<String>();
    let workers = bus
        .group("billing")
        .state(Bank)
        .on(charge)
        .retry(Retry::exponential().max(5))
        .on_dead_letter(move |letter| drop(died.send(letter.to_string())))
        .start()
        .await?;
    let (paid, mut payments) = unbounded_channel::<OrderPaid>();
    let workers = workers.and(
        bus.group("bookkeeping")
            .state(paid)
            .on(book)
            .start()
            .await?,
    );

    for (order, customer, cents) in [(1, "ada", 990), (2, "bob", 99_000)] {
        let customer = customer.to_owned();
        bus.publish(OrderPlaced {
            order,
            customer,
            cents,
        })
        .await?;
    }
    let booked = payments.recv().await;
    println!("paid: order {}", booked.map_or(0, |paid| paid.order));
    println!("dead letter: {}", dead.recv().await.unwrap_or_default());

    let stats = workers
        .drain(Duration::from_secs(25))
        .await?
        .into_result()?; // names what did not finish
    println!("{} handled, {} retried", stats.handled, stats.retried);
    let letters = DeadLetters::open(bus.transport().clone(), "orders.billing.dlq").await?;
    println!(
        "{} open dead letter(s)",
        letters.list(&Default::default()).await?.len()
    );
    bus.close(Duration::from_secs(10)).await
}

async fn book(paid: OrderPaid, State(book): State<UnboundedSender<OrderPaid>>) -> Handled {
    book.send(paid)
        .map_err(|_| "the book is closed".transient())
}

/// A bank that is busy at the first attempt and declines large sums.
#[derive(Clone, Copy)]
struct Bank;

#[derive(Debug)]
enum BankError {
    Busy,
    CardDeclined,
}

impl Bank {
    fn charge(self, _once: &EventId, cents: u64, attempt: u32) -> Result<(), BankError> {
        match (cents, attempt) {
            (50_000.., _) => Err(BankError::CardDeclined),
            (_, 1) => Err(BankError::Busy),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for BankError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "the bank is busy",
            Self::CardDeclined => "the card was declined",
        })
    }
}

impl std::error::Error for BankError {}
