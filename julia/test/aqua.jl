# What a package needs before it can be registered. Aqua is no dependency: it is asked where it is.
if Base.identify_package("Aqua") === nothing
    @info "Aqua is not in this environment: its checks are left out"
else
    @eval using Aqua
    # persistent_tasks would resolve a new environment, for which a registry is needed.
    @eval Aqua.test_all(PyFluxTransfer; persistent_tasks = false)
end
