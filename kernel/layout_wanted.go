package kernel

// wantedStructs is the one table of what a Layout holds, a subject each:
// struct: members. A member has all names it had since 5.4; what a kernel lacks
// is left out of its layout. A struct may stand under several subjects.
const wantedStructs = wantedMemoryMap + wantedTasks + wantedModules + wantedLog + wantedStacks +
	wantedTrees + wantedSched + wantedLocks + wantedMM + wantedFS + wantedBlock + wantedNet + wantedBugs

const wantedMemoryMap = `
page: flags _mapcount page_type _refcount mapping __folio_index lru private compound_head compound_info compound_order compound_dtor
folio: _folio_order _folio_dtor _flags_1
list_head: next prev
mem_section: section_mem_map usage
mem_section_usage: subsection_map
pglist_data: node_zones nr_zones node_id node_start_pfn node_spanned_pages node_present_pages
zone: free_area vm_stat zone_start_pfn spanned_pages present_pages managed_pages name per_cpu_pageset pageset per_cpu_zonestats unaccepted_pages _watermark
free_area: free_list nr_free
per_cpu_pages: count lists
per_cpu_pageset: pcp vm_stat_diff
per_cpu_zonestat: vm_stat_diff
nodemask_t: bits
cpumask: bits
uts_namespace: name
new_utsname: sysname nodename release version machine domainname
`

const wantedTasks = `
task_struct: thread_info thread tasks pid tgid comm stack state __state exit_state flags on_cpu cpu mm active_mm real_parent parent group_leader thread_group thread_node children sibling signal prio policy utime stime start_time start_boottime nvcsw nivcsw sched_info last_switch_count last_switch_time nsproxy real_cred cred stack_canary
thread_info: cpu flags preempt_count kernel_sp user_sp
thread_struct: sp ra s cpu_context pc
thread_union:
cpu_context: fp sp pc
sched_info: last_arrival last_queued run_delay pcount
signal_struct: thread_head nr_threads
mm_struct: pgd owner exe_file total_vm rss_stat arg_start arg_end
cred: uid euid
rq: curr idle stop cpu nr_running clock
`

const wantedModules = `
module: list name state mem core_layout init_layout core_kallsyms kallsyms version srcversion taints refcnt source_list target_list build_id init exit args num_syms syms
module_memory: base size
module_layout: base size text_size ro_size
mod_kallsyms: symtab num_symtab strtab typetab
module_use: source target source_list target_list
atomic_t: counter
atomic_long_t: counter
elf64_sym: st_name st_info st_other st_shndx st_value st_size
btf_module: list module btf
btf: data data_size start_id start_str_off
`

const wantedLog = `
printk_ringbuffer: desc_ring text_data_ring fail
prb_desc_ring: count_bits descs infos head_id tail_id
prb_data_ring: size_bits data head_lpos tail_lpos
prb_desc: state_var text_blk_lpos
prb_data_blk_lpos: begin next
printk_info: seq ts_nsec text_len facility flags level caller_id caller_id2 comm dev_info
dev_printk_info: subsystem device
latched_seq: val
kernel_stat: cpustat
timekeeper: xtime_sec
irqaction: handler name
`

// For package kernel/stack: registers that an exception left on a stack.
const wantedStacks = `
pt_regs: epc ra sp gp tp s0 a0 s2 t6 status badaddr cause
task_struct: stack thread on_cpu ret_stack curr_ret_stack
thread_struct: ra sp s
ftrace_ret_stack: ret func
`

// Lists and trees, for this package's own iterators.
const wantedTrees = `
maple_tree: ma_root
maple_range_64: pivot slot
maple_arange_64: pivot slot
xarray: xa_head
xa_node: shift offset parent slots
maple_tree: ma_flags ma_root
maple_node: mr64 ma64
maple_range_64: pivot slot meta
maple_arange_64: pivot slot meta
xarray: xa_head
xa_node: shift offset parent slots
idr: idr_rt idr_base
`

// For package kernel/sched: tasks, run queues, load.
const wantedSched = `
task_struct: se rt dl scx flags
rq: curr idle nr_running clock clock_task online cfs rt dl scx fair_server ext_server
cfs_rq: tasks_timeline curr
rt_rq: active
rt_prio_array: queue
dl_rq: root
scx_rq: runnable_list
sched_entity: run_node my_q exec_start sched_delayed
sched_rt_entity: run_list my_q
sched_dl_entity: rb_node
sched_ext_entity: runnable_node
mm_struct: total_vm rss_stat
percpu_counter: count counters
timekeeper: tkr_mono
tk_read_base: base xtime_nsec shift
tk_data: timekeeper
seqcount_raw_spinlock:
`

// For package kernel/lock: who holds and who waits.
const wantedLocks = `
task_struct: thread stack blocker blocked_on pi_blocked_on
thread_struct: sp cpu_context
cpu_context: sp
thread_union:
mutex: owner wait_list first_waiter
mutex_waiter: list task
rw_semaphore: count owner wait_list first_waiter
rwsem_waiter: list task
semaphore: count wait_list first_waiter last_holder
semaphore_waiter: list task
percpu_rw_semaphore: read_count writer waiters
wait_queue_head: head
wait_queue_entry: private func entry
rt_mutex_base: waiters owner
rt_mutex_waiter: tree tree_entry task lock
`

// For package kernel/mm: memory in use.
const wantedMM = `
zone: watermark_boost
pglist_data: per_cpu_nodestats
per_cpu_nodestat: vm_node_stat_diff
percpu_counter: count counters
hstate: order nr_huge_pages free_huge_pages resv_huge_pages surplus_huge_pages
super_block: s_inodes
inode: i_sb_list i_mapping
address_space: nrpages
kmem_cache: object_size oo min name list node per_node
kmem_cache_order_objects: x
kmem_cache_node: nr_slabs total_objects
kmem_cache_per_node_ptrs: node
task_struct: stack_vm_area
`

// For package kernel/fs: mounts.
const wantedFS = `
nsproxy: mnt_ns
mnt_namespace: mounts list
mount: mnt_parent mnt_mountpoint mnt mnt_devname mnt_list mnt_node
vfsmount: mnt_root mnt_sb mnt_flags
super_block: s_type s_flags s_subtype
file_system_type: name
dentry: d_parent d_name
qstr: len name
path: mnt dentry
file: f_path
`

// For package kernel/block: disks and requests in flight.
const wantedBlock = `
super_block: s_inodes
inode: i_sb_list
bdev_inode: bdev vfs_inode
block_device: bd_disk bd_nr_sectors
gendisk: disk_name part0 queue
request_queue: queue_hw_ctx hctx_table nr_hw_queues
blk_mq_hw_ctx: tags sched_tags
blk_mq_tags: nr_tags nr_reserved_tags bitmap_tags breserved_tags rqs static_rqs
sbitmap_queue: sb
sbitmap: depth shift map_nr map
sbitmap_word: word cleared
request: q cmd_flags tag __data_len __sector start_time_ns state
tk_fast: seq base
tk_read_base: base xtime_nsec shift
`

// For package kernel/net: network interfaces.
const wantedNet = `
net: dev_base_head
net_device: dev_list name ifindex mtu flags gflags state operstate type dev_addr addr_len ip_ptr ip6_ptr
in_device: ifa_list
in_ifaddr: ifa_next ifa_local ifa_prefixlen
inet6_dev: addr_list
inet6_ifaddr: if_list addr prefix_len
`

// For package report: where BUG() and WARN() stand in the source.
const wantedBugs = `
bug_entry: bug_addr_disp bug_addr file_disp file line flags
module: bug_table num_bugs
`

// wantedEnums is the table of the enums that a Layout holds, with all their
// enumerators.
const wantedEnums = `
pageflags pagetype compound_dtor_id zone_type zone_stat_item migratetype
node_stat_item zone_watermarks
module_state mod_mem_type system_states
req_op
`

// wellKnown are names of symbols that dumps are asked for, one after the other:
// whoever looks for one finds all in the same pass, which costs a second on a
// slow machine.
const wellKnown = `
panic_cpu crash_notes __per_cpu_offset nr_cpu_ids __cpu_possible_mask
node_data contig_page_data modules __start_BTF __stop_BTF init_task
__start___bug_table __stop___bug_table
tainted_mask saved_command_line dump_stack_arch_desc_str __cpu_online_mask
_totalram_pages totalreserve_pages vm_zone_stat vm_node_stat blockdev_superblock
hstates hugetlb_max_hstate nr_vmalloc_pages pcpu_nr_populated pcpu_nr_units
vm_committed_as total_swap_pages nr_swap_pages sysctl_overcommit_ratio
sysctl_overcommit_kbytes slab_caches
_start _stext _etext __start_init_stack __end_init_stack _sinittext _einittext handle_exception ret_from_exception_end
ret_from_fork ret_from_kernel_thread ret_from_fork_kernel_asm ret_from_fork_user_asm
_start_kernel secondary_start_sbi irq_stack_ptr overflow_stack return_to_handler
arch_rethook_trampoline __kretprobe_trampoline
blockdev_superblock tk_fast_mono init_net
runqueues nr_threads tk_core timekeeper_data jiffies_64 tick_nsec avenrun
percpu_rwsem_wake_function
`
