//! What wit-bindgen makes of `wit/`: the raw contract, which the rest of the SDK hands to authors.

#![allow(
    unsafe_code,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    reason = "generated"
)]

wit_bindgen::generate!({
    path: "wit",
    world: "solution",
    additional_derives: [PartialEq, Eq],
    pub_export_macro: true,
    export_macro_name: "__export_solution",
    default_bindings_module: "tandem_sdk::bindings",
});
