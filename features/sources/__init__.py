"""Everything foreign, checked on its way in: tables, NetCDF, grids, ids."""
