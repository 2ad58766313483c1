//! Whether a component can run here: what the file is, what it imports and exports, and whether it fits.

use wasmtime::component::{
    Component,
    types::{ComponentFunc, ComponentItem},
};

use super::{
    bindings::{Answer, Message},
    component_fault::ComponentFault,
    import::{self, Import, Needs},
    pool,
};
use crate::{contract::manifest::Manifest, model::limits::COMPONENT_BYTES_MAX};

/// A component that can run, and what is worth knowing about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What may be a mistake but keeps nothing from running.
    pub warnings: Vec<String>,
    /// Interfaces it imports, with their versions.
    pub imports: Vec<String>,
    /// Whether it may wait for something outside while it handles a message.
    pub may_wait: bool,
}

/// Bytes of a page of WebAssembly memory.
const PAGE_BYTES: u64 = 64 << 10;

/// Looks at the bytes alone.
pub(super) fn recognise(bytes: &[u8]) -> Result<(), ComponentFault> {
    if bytes.is_empty() {
        return Err(ComponentFault::Empty);
    }
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(ComponentFault::TooLarge { size_bytes: bytes.len() });
    }
    if wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return Err(ComponentFault::Precompiled);
    }
    match bytes {
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => Ok(()),
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(ComponentFault::CoreModule),
        _ if bytes.trim_ascii_start().starts_with(b"(") => Err(ComponentFault::Text),
        _ => Err(ComponentFault::NotWasm { begins: bytes.iter().take(8).copied().collect() }),
    }
}

/// What a compiled component asks for, and all that is wrong with it.
pub(super) struct Shape {
    pub(super) checked: Checked,
    pub(super) faults: Vec<ComponentFault>,
}

pub(super) fn shape(component: &Component, manifest: &Manifest) -> Shape {
    let imports = Imports::of(component);
    let mut faults = imports.faults(manifest);
    faults.extend(handle_fault(component));
    faults.extend(size_faults(component, manifest.limits.memory));
    let warnings = imports.unused_grants(manifest);
    let Imports { names, may_wait } = imports;
    Shape { checked: Checked { warnings, imports: names, may_wait }, faults }
}

struct Imports {
    names: Vec<String>,
    may_wait: bool,
}

impl Imports {
    fn of(component: &Component) -> Self {
        let engine = component.engine();
        let ty = component.component_type();
        let mut imports = Self { names: Vec::new(), may_wait: false };
        for (name, item) in ty.imports(engine) {
            imports.names.push(name.to_owned());
            if let ComponentItem::ComponentInstance(instance) = item.ty {
                imports.may_wait |=
                    instance.exports(engine).any(|(function, _)| import::may_wait(name, function));
            }
        }
        imports
    }

    fn faults(&self, manifest: &Manifest) -> Vec<ComponentFault> {
        let fault = |name: &String| {
            let import = name.clone();
            match import::classify(name) {
                Import::Linked(known) if known.needs.is_granted(&manifest.grants) => None,
                Import::Linked(known) => {
                    known.needs.grant().map(|grant| ComponentFault::NotGranted { import, grant })
                }
                Import::OtherVersion { linked } => {
                    Some(ComponentFault::OtherVersion { import, linked })
                }
                Import::Unknown { closest } => {
                    Some(ComponentFault::UnknownImport { import, closest })
                }
            }
        };
        self.names.iter().filter_map(fault).collect()
    }

    fn unused_grants(&self, manifest: &Manifest) -> Vec<String> {
        let is_used = |needs: Needs| {
            self.names.iter().any(
                |name| matches!(import::classify(name), Import::Linked(known) if known.needs == needs),
            )
        };
        [Needs::Outbox, Needs::Publish, Needs::Http]
            .into_iter()
            .filter(|needs| needs.is_granted(&manifest.grants) && !is_used(*needs))
            .filter_map(Needs::grant)
            .map(|grant| {
                format!("solution.toml grants `{grant}`, but the component never uses it: leave the grant away")
            })
            .collect()
    }
}

fn handle_fault(component: &Component) -> Option<ComponentFault> {
    let ty = component.component_type();
    match ty.get_export(component.engine(), "handle").map(|item| item.ty) {
        Some(ComponentItem::ComponentFunc(handle)) => check_handle(&handle, component).err(),
        Some(_) => Some(ComponentFault::OtherHandle { reason: "it is no function".to_owned() }),
        None => {
            let found = ty.exports(component.engine()).map(|(name, _)| name.to_owned()).collect();
            Some(ComponentFault::NoHandle { found })
        }
    }
}

fn check_handle(handle: &ComponentFunc, component: &Component) -> Result<(), ComponentFault> {
    if handle.async_() {
        let reason = "it is an async function, which WASI 0.2 does not have".to_owned();
        return Err(ComponentFault::OtherHandle { reason });
    }
    handle
        .typecheck::<(Message<'static>,), (Answer,)>(&component.component_type().instance_type())
        .map_err(|error| ComponentFault::OtherHandle { reason: format!("{error:#}") })
}

fn size_faults(component: &Component, limit_bytes: u64) -> Vec<ComponentFault> {
    let Some(required) = component.resources_required() else {
        let reason = "it takes core modules or components as imports".to_owned();
        return vec![ComponentFault::Link { reason }];
    };
    let mut faults = Vec::new();
    let counts = [
        ("memories", u64::from(required.num_memories), u64::from(pool::MEMORIES_MAX)),
        ("tables", u64::from(required.num_tables), u64::from(pool::TABLES_MAX)),
        (
            "elements in a table",
            required.max_initial_table_size.unwrap_or(0),
            pool::TABLE_ELEMENTS_MAX as u64,
        ),
    ];
    for (what, count, max) in counts {
        if count > max {
            faults.push(ComponentFault::DoesNotFit { what, count, max });
        }
    }
    let needs_bytes = required.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES);
    if needs_bytes > limit_bytes {
        faults.push(ComponentFault::MemoryLimit { needs_bytes, limit_bytes });
    }
    faults
}
