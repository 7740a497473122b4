//! The same images unpacked by others and by us, entry by entry: type, mode, owner, size, time, extended
//! attributes, link target, content and which names are one file. umoci is the measure; where it refuses
//! or errs, the test says so and GNU tar or the specification's own words take its place.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod attributes;
mod formats;
mod image;
mod implied;
mod links;
mod names;
mod packing;
mod replacement;
mod sparse;
mod tree;
mod whiteouts;
