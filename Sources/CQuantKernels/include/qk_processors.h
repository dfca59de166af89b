// Processors that the calling process may run on.
#ifndef QK_PROCESSORS_H
#define QK_PROCESSORS_H

/// How many there are, or 0 where the system does not say. Launchers of ranks bind processes to few.
int qk_usable_processors(void);

#endif
