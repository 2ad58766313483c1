//! The memory limit of an instance as a whole: all its memories and tables together.

use wasmtime::ResourceLimiter;

/// What one table element takes in the host.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

#[derive(Debug)]
pub(super) struct Limiter {
    limit_bytes: usize,
    used_bytes: usize,
    /// What the last growth added, to be taken back if it fails after all.
    last_bytes: usize,
    was_hit: bool,
}

impl Limiter {
    pub(super) fn new(limit_bytes: u64) -> Self {
        let limit_bytes = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
        Self { limit_bytes, used_bytes: 0, last_bytes: 0, was_hit: false }
    }

    /// Whether anything was refused. A component that then breaks did so for want of memory.
    pub(super) fn was_hit(&self) -> bool {
        self.was_hit
    }

    /// Refuses by `false`, which the component sees as a failed growth: an engine with a garbage collector gets
    /// by, and what cannot traps by itself.
    fn grow(&mut self, current_bytes: usize, desired_bytes: usize) -> bool {
        let more = desired_bytes.saturating_sub(current_bytes);
        let fits = self.used_bytes.checked_add(more).is_some_and(|sum| sum <= self.limit_bytes);
        if fits {
            self.used_bytes += more;
            self.last_bytes = more;
        } else {
            self.was_hit = true;
        }
        fits
    }

    fn take_back(&mut self) {
        self.used_bytes -= std::mem::take(&mut self.last_bytes);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(TABLE_ELEMENT_BYTES);
        Ok(self.grow(bytes(current), bytes(desired)))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_one_limit() {
        let mut limiter = Limiter::new(1000);
        assert!(limiter.memory_growing(0, 400, None).unwrap());
        assert!(limiter.memory_growing(0, 400, None).unwrap());
        assert!(limiter.table_growing(0, 25, None).unwrap());
        assert!(!limiter.was_hit());
        assert!(!limiter.table_growing(25, 26, None).unwrap());
        assert!(!limiter.memory_growing(400, 401, None).unwrap());
        assert!(limiter.was_hit());
    }

    #[test]
    fn what_did_not_grow_after_all_is_not_counted() {
        let mut limiter = Limiter::new(1000);
        assert!(limiter.memory_growing(0, 900, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("no page")).unwrap();
        assert!(limiter.memory_growing(0, 1000, None).unwrap());
    }

    #[test]
    fn a_growth_beyond_any_number_is_refused() {
        let mut limiter = Limiter::new(u64::MAX);
        assert!(limiter.memory_growing(0, 10, None).unwrap());
        assert!(!limiter.memory_growing(0, usize::MAX, None).unwrap());
        assert!(!limiter.table_growing(0, usize::MAX, None).unwrap());
    }
}
