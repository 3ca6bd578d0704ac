use std::ops::Range;

/// What `madvise` wants an address to be a multiple of.
const PAGE: usize = 4096;

/// Asks the kernel for huge pages in this range of addresses, before they are
/// touched (Linux: transparent huge pages, where `always` or `madvise` is set).
/// Whole pages only; where there are none, nothing changes.
///
/// For large tables that are probed at random: with pages of 4 KiB the walk
/// through the page tables costs more than the line it leads to, and a prefetch
/// waits for it.
pub fn advise_huge_pages(addresses: Range<usize>) {
    let (first, end) = (addresses.start.next_multiple_of(PAGE), addresses.end / PAGE * PAGE);
    if first < end {
        // SAFETY: whatever is there, the advice changes nothing of it that a
        // program can see but time. So its failure is left alone as well.
        unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags that the kernel shows for the mapping of this address.
    fn flags(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let holds = |line: &str| {
            let (start, end) = line.split_once(' ')?.0.split_once('-')?;
            let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).ok());
            Some((start?..end?).contains(&address))
        };
        let mut lines = maps.lines().skip_while(|line| holds(line) != Some(true));
        lines.find_map(|line| line.strip_prefix("VmFlags:")).unwrap().to_string()
    }

    #[test]
    fn the_kernel_is_asked_for_this_memory_and_no_other() {
        let mut advised = Vec::<u8>::with_capacity(8 << 20);
        let range = advised.spare_capacity_mut().as_ptr_range();
        advise_huge_pages(range.start as usize..range.end as usize);
        advised.resize(8 << 20, 7);
        let other = vec![7u8; 8 << 20];
        let is_advised = |bytes: &[u8]| flags(bytes[4 << 20..].as_ptr() as usize).contains(" hg");
        let has_huge_pages = std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists();
        assert_eq!((is_advised(&advised), is_advised(&other)), (has_huge_pages, false));
        assert!(advised.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn less_than_a_page_is_left_alone() {
        advise_huge_pages(0..0);
        advise_huge_pages(PAGE + 1..2 * PAGE - 1);
    }
}
