#include "clap_host_counters.hpp"

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>

#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ATTACCA_HOST_INTERPOSES 0
#else
#define ATTACCA_HOST_INTERPOSES 1
#endif

namespace {

thread_local attacca::host::Counts* t_counts = nullptr;

enum Selector : char { kAllow = 0, kBlock = 1 };  // SYSCALL_DISPATCH_FILTER_*
thread_local volatile char t_selector = kAllow;
thread_local bool t_watched = false;

}  // namespace

#if ATTACCA_HOST_INTERPOSES
namespace {

void count(int64_t attacca::host::Counts::*what) {
    if (t_counts != nullptr) ++(t_counts->*what);
}

template <class F>
F next(F& cached, const char* name, const char* version = nullptr) {
    if (cached == nullptr) {
        void* found = version != nullptr ? dlvsym(RTLD_NEXT, name, version) : nullptr;
        if (found == nullptr) found = dlsym(RTLD_NEXT, name);
        std::memcpy(&cached, &found, sizeof found);
    }
    return cached;
}

constexpr const char* kCondVersion = "GLIBC_2.3.2";  // an older one of the same name is there, too

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))
// One lock function: counted, then the C library's own.
#define COUNTED(what, name, version, parameters, arguments) \
    EXPORTED int name parameters noexcept {                 \
        static int(*real) parameters = nullptr;             \
        count(&attacca::host::Counts::what);                \
        return next(real, #name, version) arguments;        \
    }

extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* pointer, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
void __libc_free(void* pointer);
}

EXPORTED void* malloc(size_t size) noexcept {
    count(&attacca::host::Counts::allocations);
    return __libc_malloc(size);
}
EXPORTED void* calloc(size_t number, size_t size) noexcept {
    count(&attacca::host::Counts::allocations);
    return __libc_calloc(number, size);
}
EXPORTED void* realloc(void* pointer, size_t size) noexcept {
    count(&attacca::host::Counts::allocations);
    return __libc_realloc(pointer, size);
}
EXPORTED void* memalign(size_t alignment, size_t size) noexcept {
    count(&attacca::host::Counts::allocations);
    return __libc_memalign(alignment, size);
}
EXPORTED void* aligned_alloc(size_t alignment, size_t size) noexcept { return memalign(alignment, size); }
EXPORTED int posix_memalign(void** pointer, size_t alignment, size_t size) noexcept {
    *pointer = memalign(alignment, size);
    return *pointer == nullptr ? ENOMEM : 0;
}
EXPORTED void free(void* pointer) noexcept {
    if (pointer != nullptr) count(&attacca::host::Counts::frees);
    __libc_free(pointer);
}

COUNTED(locks, pthread_mutex_lock, nullptr, (pthread_mutex_t * mutex), (mutex))
COUNTED(try_locks, pthread_mutex_trylock, nullptr, (pthread_mutex_t * mutex), (mutex))
COUNTED(locks, pthread_mutex_timedlock, nullptr, (pthread_mutex_t * mutex, const timespec* until), (mutex, until))
COUNTED(locks, pthread_rwlock_rdlock, nullptr, (pthread_rwlock_t * lock), (lock))
COUNTED(locks, pthread_rwlock_wrlock, nullptr, (pthread_rwlock_t * lock), (lock))
COUNTED(locks, pthread_spin_lock, nullptr, (pthread_spinlock_t * lock), (lock))
COUNTED(signals, pthread_cond_signal, kCondVersion, (pthread_cond_t * condition), (condition))
COUNTED(signals, pthread_cond_broadcast, kCondVersion, (pthread_cond_t * condition), (condition))
COUNTED(signals, sem_post, nullptr, (sem_t * semaphore), (semaphore))

EXPORTED int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
    static int (*real)(pthread_cond_t*, pthread_mutex_t*) = nullptr;
    count(&attacca::host::Counts::locks);
    return next(real, "pthread_cond_wait", kCondVersion)(condition, mutex);
}
EXPORTED int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex, const timespec* until) {
    static int (*real)(pthread_cond_t*, pthread_mutex_t*, const timespec*) = nullptr;
    count(&attacca::host::Counts::locks);
    return next(real, "pthread_cond_timedwait", kCondVersion)(condition, mutex, until);
}
EXPORTED int sem_wait(sem_t* semaphore) {
    static int (*real)(sem_t*) = nullptr;
    count(&attacca::host::Counts::locks);
    return next(real, "sem_wait")(semaphore);
}
#endif  // ATTACCA_HOST_INTERPOSES

#if defined(__x86_64__) && defined(PR_SET_SYSCALL_USER_DISPATCH)

// The only system calls that are never handed over: the one that a handler makes for the plugin, and its return.
extern "C" long attacca_raw_call(long number, const long* arguments);
extern "C" void attacca_restorer();
extern "C" char attacca_raw_begin[], attacca_raw_end[];
asm(R"(
.text
.globl attacca_raw_begin, attacca_raw_end, attacca_raw_call, attacca_restorer
attacca_raw_begin:
attacca_raw_call:
    movq %rdi, %rax
    movq %rsi, %r11
    movq 0(%r11), %rdi
    movq 8(%r11), %rsi
    movq 16(%r11), %rdx
    movq 24(%r11), %r10
    movq 32(%r11), %r8
    movq 40(%r11), %r9
    syscall
    ret
attacca_restorer:
    movq $15, %rax
    syscall
    nop
attacca_raw_end:
)");

namespace {

// Runs on the audio thread in the place of the plugin's system call, and makes it in the end.
void on_system_call(int, siginfo_t*, void* context) {
    greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    const long number = static_cast<long>(registers[REG_RAX]);
    if (attacca::host::Counts* counts = t_counts) {
        const auto at = static_cast<size_t>(counts->system_calls++);
        if (at < counts->numbers.size()) counts->numbers[at] = static_cast<int32_t>(number);
    }
    if (number == SYS_clone || number == SYS_clone3 || number == SYS_fork || number == SYS_vfork) {
        registers[REG_RAX] = -EAGAIN;  // a child would return into this handler
        return;
    }
    const long arguments[6] = {registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
                               registers[REG_R10], registers[REG_R8],  registers[REG_R9]};
    registers[REG_RAX] = attacca_raw_call(number, arguments);
}

struct KernelAction {  // struct sigaction as the kernel has it
    void (*handler)(int, siginfo_t*, void*);
    unsigned long flags;
    void (*restorer)();
    unsigned long mask;
};

constexpr unsigned long kRestorer = 0x04000000;  // SA_RESTORER

}  // namespace

std::string attacca::host::watch_system_calls() {
    const KernelAction action{on_system_call, SA_SIGINFO | kRestorer | SA_NODEFER, attacca_restorer, 0};
    if (syscall(SYS_rt_sigaction, SIGSYS, &action, nullptr, sizeof action.mask) != 0) return std::strerror(errno);
    const auto length = static_cast<unsigned long>(attacca_raw_end - attacca_raw_begin);
    if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, attacca_raw_begin, length, &t_selector) != 0) {
        return std::string("the kernel has no user dispatch of system calls: ") + std::strerror(errno);
    }
    t_watched = true;
    return "";
}
#else
std::string attacca::host::watch_system_calls() { return "system calls are counted on x86-64 Linux only"; }
#endif

bool attacca::host::counts_allocations() { return ATTACCA_HOST_INTERPOSES != 0; }

void attacca::host::begin(Counts& counts) noexcept {
    t_counts = &counts;
    if (t_watched) t_selector = kBlock;
}

void attacca::host::end() noexcept {
    t_selector = kAllow;
    t_counts = nullptr;
}
