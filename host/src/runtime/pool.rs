//! How wasmtime is set up: what components may use, and where their memory comes from.

use std::{fs, num::NonZeroUsize};

use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, ResourcesRequired,
    WasmBacktraceDetails,
};

use crate::model::limits::MEMORY_BYTES_MAX;

/// Memories of one component.
pub(super) const MEMORIES_MAX: u32 = 8;
/// Tables of one component.
pub(super) const TABLES_MAX: u32 = 16;
/// Elements of one table: the engines of other languages need tens of thousands.
pub(super) const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Core modules in one component: those that carry a language's whole library are made of many.
const CORE_INSTANCES_MAX: u32 = 200;
/// What the host keeps for one core instance, in bytes.
const INSTANCE_BYTES_MAX: usize = 4 << 20;
/// Most components have one memory; the pool has room for twice as many as instances, and at least one full component.
const MEMORIES_EACH: u32 = 2;
/// Most components have two tables.
const TABLES_EACH: u32 = 4;

/// Stack of a component, in bytes, and of the fiber that an attempt that may wait runs on.
const WASM_STACK_BYTES: usize = 512 << 10;
const FIBER_STACK_BYTES: usize = 2 << 20;

/// Frames of a trap's backtrace.
const BACKTRACE_FRAMES: usize = 64;

/// Memory of a free place that is kept and cleared by writing zeroes, rather than given back to the system.
const RESIDENT_BYTES: usize = 64 << 10;
/// The same where the kernel can tell which pages were written: then only those are cleared.
const RESIDENT_BYTES_SCANNED: usize = 2 << 20;
const RESIDENT_TABLE_BYTES: usize = 16 << 10;

/// With places made ahead for `instances` at once.
pub(super) fn pooling(instances: u32) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_MAX))
        .total_memories(instances.saturating_mul(MEMORIES_EACH).max(MEMORIES_MAX))
        .total_tables(instances.saturating_mul(TABLES_EACH).max(TABLES_MAX))
        .total_stacks(instances)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_memories_per_module(1)
        .max_tables_per_module(TABLES_MAX)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .max_memory_size(memory_bytes_max())
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_unused_warm_slots(instances)
        .table_keep_resident(RESIDENT_TABLE_BYTES);
    if may_scan() {
        pool.pagemap_scan(Enabled::Yes).linear_memory_keep_resident(RESIDENT_BYTES_SCANNED);
    } else {
        pool.pagemap_scan(Enabled::No).linear_memory_keep_resident(RESIDENT_BYTES);
    }
    let mut config = common();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// How many places an instance takes: more than one if it has more memories or tables than most.
pub(super) fn places(required: &ResourcesRequired) -> u32 {
    let memories = required.num_memories.div_ceil(MEMORIES_EACH);
    let tables = required.num_tables.div_ceil(TABLES_EACH);
    memories.max(tables).max(1)
}

/// For a process that may not reserve that much address space: slower, the same otherwise.
pub(super) fn on_demand() -> Config {
    let mut config = common();
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    config.memory_reservation(64 << 20).memory_guard_size(64 << 10);
    config
}

fn common() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    // WASI 0.2 only: nothing here needs calls that overlap, and they cost each call that does not.
    config.concurrency_support(false);
    config.epoch_interruption(true);
    config.max_wasm_stack(WASM_STACK_BYTES).async_stack_size(FIBER_STACK_BYTES);
    config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
    config.wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES));
    // The same results on both nodes, whatever their processors.
    config.relaxed_simd_deterministic(true);
    config.wasm_memory64(false).wasm_multi_memory(false);
    config
}

fn memory_bytes_max() -> usize {
    usize::try_from(MEMORY_BYTES_MAX).expect("1 GiB is addressable wherever wasmtime compiles")
}

/// Whether the kernel may be asked which pages an instance wrote.
///
/// wasmtime 48 asks for pages that are written *and present*: one that was swapped out would neither be cleared nor
/// given back, and the next instance would read it. So: never where there is swap.
fn may_scan() -> bool {
    let is_available = PoolingAllocationConfig::is_pagemap_scan_available();
    let swaps = fs::read_to_string("/proc/swaps");
    let may = is_available && swaps.as_ref().is_ok_and(|swaps| has_no_swap(swaps));
    tracing::info!(
        pagemap_scan = may,
        is_available,
        swap = %swaps.map_or_else(|error| error.to_string(), |swaps| if has_no_swap(&swaps) { "none" } else { "present" }.to_owned()),
        "how an instance's memory is cleared"
    );
    may
}

/// `/proc/swaps` has one line of titles, then one for each swap.
fn has_no_swap(swaps: &str) -> bool {
    swaps.starts_with("Filename") && swaps.lines().skip(1).all(|line| line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_noticed_and_doubt_counts_as_swap() {
        let titles = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert!(has_no_swap(titles));
        assert!(!has_no_swap(&format!("{titles}/dev/zram0 partition 1000 0 100\n")));
        assert!(!has_no_swap(""));
    }
}
