//! What the runtime's tests share: a view from a table, an attempt, and components written by hand.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::attempt::Attempt;
use crate::{
    contract::{
        capability::{Grants, HostPattern, Port, Target},
        handler::{View, ViewError},
    },
    model::message::MessageId,
};

/// A view whose state and settings are two tables.
#[derive(Debug, Default, Clone)]
pub(super) struct TableView {
    pub(super) state: BTreeMap<String, Bytes>,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) is_broken: bool,
}

impl TableView {
    pub(super) fn with_keys(keys: &[&str]) -> Self {
        let state = keys.iter().map(|key| ((*key).to_owned(), Bytes::from_static(b"kept")));
        Self { state: state.collect(), ..Self::default() }
    }

    fn whole(&self) -> Result<&BTreeMap<String, Bytes>, ViewError> {
        if self.is_broken { Err(ViewError("the disk is gone".to_owned())) } else { Ok(&self.state) }
    }
}

impl View for TableView {
    fn state_get(&self, key: &str) -> Result<Option<Bytes>, ViewError> {
        Ok(self.whole()?.get(key).cloned())
    }

    fn state_list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, ViewError> {
        let listed = self.whole()?.iter().filter(|(key, _)| {
            key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after)
        });
        Ok(listed.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.settings.get(name).cloned()
    }
}

pub(super) fn target(scheme: &str, host: &str, port: u16) -> Target {
    Target::Origin {
        scheme: scheme.to_owned(),
        host: HostPattern::Exactly(host.to_owned()),
        port: Port::Number(port),
    }
}

pub(super) fn attempt(grants: Grants) -> Attempt {
    Attempt::new(MessageId([7; 16]), Arc::new(grants), 1 << 20, None)
}

/// A component in its text form, without what differs from one to the next.
///
/// `handle` takes its 16 flat parameters and gives a pointer to its result: at 0 whether it failed, at 8 whether
/// there is a reply or which failure, from 12 (reply) or 16 (failure) on the rest. 1024 zeroes are `ok(none)`.
pub(super) const TYPES: &str = r#"
  (type $types-ty (instance
    (type $header0 (record (field "name" string) (field "value" (list u8))))
    (export "header" (type $header (eq $header0)))
    (type $message0 (record
      (field "id" string) (field "source" string) (field "time-ms" u64) (field "attempt" u32)
      (field "headers" (list $header)) (field "content-type" (option string))
      (field "key" (option string)) (field "body" (list u8))))
    (export "message" (type (eq $message0)))
    (type $reply0 (record
      (field "status" u16) (field "headers" (list $header))
      (field "content-type" (option string)) (field "body" (list u8))))
    (export "reply" (type (eq $reply0)))
    (type $retry0 (record (field "reason" string) (field "after-ms" (option u64))))
    (export "retry" (type $retry (eq $retry0)))
    (type $failure0 (variant (case "retry" $retry) (case "reject" string) (case "other" string)))
    (export "failure" (type (eq $failure0)))))
  (import "tandem:solution/types@0.1.0" (instance $types (type $types-ty)))
  (alias export $types "message" (type $message))
  (alias export $types "reply" (type $reply))
  (alias export $types "failure" (type $failure))
"#;

const STATE: &str = r#"
  (type $state-ty (instance
    (type $error0 (variant (case "invalid-key" string) (case "value-too-large" u64)
      (case "too-much" string) (case "other" string)))
    (export "error" (type $error (eq $error0)))
    (export "get" (func (param "key" string) (result (result (option (list u8)) (error $error)))))
    (export "set" (func (param "key" string) (param "value" (list u8)) (result (result (error $error)))))))
  (import "tandem:solution/state@0.1.0" (instance $state (type $state-ty)))
  (core func $get (canon lower (func $state "get") (memory (core memory $mem "memory")) (realloc (core func $mem "realloc"))))
  (core func $set (canon lower (func $state "set") (memory (core memory $mem "memory")) (realloc (core func $mem "realloc"))))
"#;

const LOG: &str = r#"
  (type $log-ty (instance
    (type $level0 (enum "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level0)))
    (export "log" (func (param "level" $level) (param "line" string)))))
  (import "tandem:solution/log@0.1.0" (instance $log (type $log-ty)))
  (core func $log (canon lower (func $log "log") (memory (core memory $mem "memory")) (realloc (core func $mem "realloc"))))
"#;

const MEMORY: &str = r#"
  (core module $Mem
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $mem (instantiate $Mem))
"#;

/// `handle` of a core module, with its parameters named as far as tests use them.
pub(super) const HANDLE: &str = r#"(func $handle (export "handle")
    (param i32 i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32) (param $body i32) (param $size i32)
    (result i32)"#;

/// A solution whose core module imports `m` (its memory, and `get`, `set` and `log`) and has the body `core`.
pub(super) fn solution(core: &str) -> Vec<u8> {
    wat(&format!(
        r#"(component {TYPES} {MEMORY} {STATE} {LOG}
  (core module $Main
    (import "m" "memory" (memory 1))
    (import "m" "get" (func $get (param i32 i32 i32)))
    (import "m" "set" (func $set (param i32 i32 i32 i32 i32)))
    (import "m" "log" (func $log (param i32 i32 i32)))
    {core})
  (core instance $main (instantiate $Main (with "m" (instance
    (export "memory" (memory $mem "memory"))
    (export "get" (func $get)) (export "set" (func $set)) (export "log" (func $log))))))
  {EXPORT})"#
    ))
}

/// Lifts `handle` of the core instance `$main`.
const EXPORT: &str = r#"(func (export "handle") (param "message" $message)
    (result (result (option $reply) (error $failure)))
    (canon lift (core func $main "handle") (memory (core memory $mem "memory")) (realloc (core func $mem "realloc"))))"#;

/// A solution with `items` before its core module, which imports nothing but memory.
pub(super) fn solution_with(items: &str, core: &str) -> Vec<u8> {
    wat(&format!(
        r#"(component {TYPES} {MEMORY} {items}
  (core module $Main (import "m" "memory" (memory 1)) {core})
  (core instance $main (instantiate $Main (with "m" (instance $mem))))
  {EXPORT})"#
    ))
}

/// A solution that is done at once.
pub(super) fn done() -> Vec<u8> {
    solution_with("", &format!("{HANDLE} (i32.const 1024))"))
}

pub(super) fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}
