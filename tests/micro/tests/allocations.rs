//! What a row may ask of the allocator on its way through capture. One test alone: others would be counted too.

use syncline_capture::postgres::pgoutput::{Decoder, Message};
use syncline_micro::allocations::{self, Counting};
use syncline_micro::log;

#[global_allocator]
static COUNTING: &Counting = allocations::COUNTING;

const ROWS: usize = 1_000;

#[test]
fn a_row_is_encoded_without_an_allocation_and_decoded_with_one_for_the_list_of_its_cells() {
    let payloads: Vec<_> = (0..ROWS as u64).map(log::insert).collect();
    let mut decoder = Decoder::new();
    let mut messages: Vec<Message> = Vec::with_capacity(ROWS);
    let asked = allocations::asked(ROWS, || {
        messages.extend(payloads.into_iter().map(|payload| decoder.decode(payload).unwrap()));
    });
    assert!(asked.times <= 1.0, "decode: {asked:?}");

    let mut assembler = log::assembler().unwrap();
    let mut push = |message: &Message| {
        assembler.push(log::CHANGE, message, log::NOW_NS).unwrap();
        assert_eq!(assembler.records().rows().len(), 1);
    };
    messages.iter().for_each(&mut push); // its buffers are as large as they will ever be
    let asked = allocations::asked(ROWS, || messages.iter().for_each(&mut push));
    assert!(asked.times <= 0.0, "encode: {asked:?}");
}
