"""Stand-ins for the four generations of natten, computed by nalab on CPUs.

    import nalab.natten
    nalab.natten.install("0.17.5")    # before the program that wants natten is imported

After that `import natten` finds a package with the functions, layouts, argument order, defaults, modules, padding rules and
names of parameters that this version of natten has, so that unmodified programs run. Programs that can be changed may import
the modules v014 (0.14), v015 (0.15), v017 (0.17) and v020 (0.20 and later) of this package instead.

What natten asks about its kernels (tiles, backends, schedules, fused or not) is accepted and changes nothing.
"""

from ._install import install, uninstall

__all__ = ["install", "uninstall"]
