/* Preloaded into user-mode Linux, so that it runs on processors whose register state is larger than the one it knows.
 *
 * User-mode Linux 6.1 saves and restores the registers of its programs by ptrace(2) with a buffer of fixed size. Linux
 * fills as much of such a buffer as there is, but PTRACE_SETREGSET of NT_X86_XSTATE fails with EFAULT unless the buffer
 * has the size of the whole state. Processors with AMX have 8 KiB of tile registers at the end of it, so that the guest's
 * first program cannot be started there. This puts the caller's part into a state of the right size.
 *
 * tests/vm/guest.py compiles this with tcc, without any header of the C library. */

#define PTRACE_GETREGSET 0x4204
#define PTRACE_SETREGSET 0x4205
#define NT_X86_XSTATE 0x202
#define RTLD_NEXT ((void *)-1)

/* In the header at byte 512, XSTATE_BV: which components are not in their initial state. Bits 17 and 18 are AMX's. */
#define XSTATE_BV 512
#define AMX_COMPONENTS (3ul << 17)

struct buffer {
    unsigned char *start;
    unsigned long size;
};

typedef long ptrace_function(int request, int pid, void *address, void *data);

extern void *dlsym(void *handle, const char *name);
extern void *memcpy(void *to, const void *from, unsigned long size);

static unsigned char state[1 << 16];
static ptrace_function *libc_ptrace;

/* Declared with "..." in the C library; on x86-64 the callers of both kinds pass these arguments alike. */
long ptrace(int request, int pid, void *address, void *data)
{
    if (!libc_ptrace)
        libc_ptrace = (ptrace_function *)dlsym(RTLD_NEXT, "ptrace");
    if (request != PTRACE_SETREGSET || (unsigned long)address != NT_X86_XSTATE)
        return libc_ptrace(request, pid, address, data);

    struct buffer *given = data;
    struct buffer whole = {state, sizeof state};
    if (libc_ptrace(PTRACE_GETREGSET, pid, address, &whole) < 0)
        return -1;
    if (given->size >= whole.size)
        return libc_ptrace(request, pid, address, data);
    memcpy(state, given->start, given->size);
    *(unsigned long *)(state + XSTATE_BV) &= ~AMX_COMPONENTS;
    return libc_ptrace(request, pid, address, &whole);
}
