# Makes PAGE of SOURCE, with what PCACHEFS says of its commands in it.
execute_process(COMMAND ${PCACHEFS} manual OUTPUT_VARIABLE COMMANDS COMMAND_ERROR_IS_FATAL ANY)
configure_file(${SOURCE} ${PAGE}.scd @ONLY)
execute_process(COMMAND ${SCDOC} INPUT_FILE ${PAGE}.scd OUTPUT_FILE ${PAGE} COMMAND_ERROR_IS_FATAL ANY)
