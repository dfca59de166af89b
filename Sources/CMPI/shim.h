// MPI names its handles by macros, which Swift does not see.
#ifndef CMPI_SHIM_H
#define CMPI_SHIM_H

#include <mpi.h>

static inline MPI_Comm qk_mpi_world(void) { return MPI_COMM_WORLD; }
static inline MPI_Comm qk_mpi_no_communicator(void) { return MPI_COMM_NULL; }
static inline MPI_Datatype qk_mpi_byte(void) { return MPI_BYTE; }
static inline MPI_Request qk_mpi_no_request(void) { return MPI_REQUEST_NULL; }
static inline MPI_Info qk_mpi_no_info(void) { return MPI_INFO_NULL; }
static inline MPI_Errhandler qk_mpi_return_errors(void) { return MPI_ERRORS_RETURN; }
static inline MPI_Status *qk_mpi_ignore_status(void) { return MPI_STATUS_IGNORE; }
static inline MPI_Status *qk_mpi_ignore_statuses(void) { return MPI_STATUSES_IGNORE; }
static inline int qk_mpi_any_source(void) { return MPI_ANY_SOURCE; }
static inline int qk_mpi_shared_memory(void) { return MPI_COMM_TYPE_SHARED; }
static inline int qk_mpi_serialized(void) { return MPI_THREAD_SERIALIZED; }
static inline int qk_mpi_longest_error(void) { return MPI_MAX_ERROR_STRING; }

#endif
