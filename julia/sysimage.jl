# Makes a system image with this package and what it needs. Run by `pyflux-transfer setup --sysimage` as
#   julia --project=PROJECT sysimage.jl IMAGE PROJECT
# with this package on JULIA_LOAD_PATH. PythonCall stays outside: inside an image it would start before
# juliacall is ready (https://github.com/JuliaPy/PythonCall.jl/issues/436).
import Pkg, TOML

const IMAGE, PROJECT = ARGS
const WANTED = ("Flux", "Metalhead", "Optimisers", "PyFluxTransfer")

if Base.identify_package("PackageCompiler") === nothing
    println("fetching PackageCompiler")
    Pkg.activate(; temp = true)
    Pkg.add("PackageCompiler"; io = stdout)
end
using PackageCompiler: create_sysimage

held = keys(get(TOML.parsefile(joinpath(PROJECT, "Project.toml")), "deps", Dict()))
packages = String[name for name in WANTED if name in held]
println("compiling ", join(packages, ", "), ", PyFluxTransfer into ", IMAGE)
mktempdir() do folder
    # Found on the load path, as always; the image's builder knows the project alone. What the builder
    # starts from has not been initialised, so without the first lines there is no BLAS to call.
    script = joinpath(folder, "load.jl")
    write(
        script,
        """
        using LinearAlgebra: LinearAlgebra
        LinearAlgebra.libblastrampoline_jll.__init__()
        LinearAlgebra.OpenBLAS_jll.__init__()
        LinearAlgebra.__init__()
        push!(LOAD_PATH, $(repr(@__DIR__)))
        using PyFluxTransfer: PyFluxTransfer
        """,
    )
    create_sysimage(
        packages;
        sysimage_path = IMAGE,
        project = PROJECT,
        script,
        cpu_target = "native",
    )
end
