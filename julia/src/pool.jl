# What evaluation needs besides weights: buffers, and the threads of the matrix product. Any number
# of tasks may ask for them at once.

"Workspaces, taken by whoever computes and put back afterwards."
struct Pool
    free::Vector{Workspace}
    lock::ReentrantLock
end

Pool() = Pool(Workspace[], ReentrantLock())

"Call `work` with so many workspaces that nobody else has."
function with_workspaces(work, pool::Pool, count)
    taken = lock(pool.lock) do
        Workspace[isempty(pool.free) ? Workspace() : pop!(pool.free) for _ in 1:count]
    end
    try
        return work(taken)
    finally
        lock(() -> append!(pool.free, taken), pool.lock)
    end
end

# OpenBLAS has one count of threads for the process: whoever comes first sets it, whoever leaves last
# puts back what was there.
mutable struct BlasThreads
    users::Int
    usual::Int
    lock::ReentrantLock
end

const BLAS_THREADS = BlasThreads(0, 0, ReentrantLock())

"Call `work` with so many threads for a matrix product, or as many as a call under way has set."
function with_blas_threads(work, count, state = BLAS_THREADS)
    lock(state.lock) do
        if state.users == 0
            state.usual = BLAS.get_num_threads()
            BLAS.set_num_threads(count)
        end
        state.users += 1
    end
    try
        return work()
    finally
        lock(state.lock) do
            state.users -= 1
            state.users == 0 && BLAS.set_num_threads(state.usual)
        end
    end
end
