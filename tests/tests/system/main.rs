//! The house as its users meet it: the binaries, real PostgreSQL, a real broker, a real registry. One binary, because the
//! tests mostly wait: with all of them in one pool the machine is busy. `crash` and `brokers` stand beside it, because
//! their loads and JVMs want the machine.

mod capture_divided;
mod capture_faults;
mod capture_held;
mod capture_memory;
mod capture_names;
mod capture_order;
mod capture_schema;
mod capture_servers;
mod capture_silence;
mod check;
mod connector_role;
mod console;
mod consumers;
mod dead_letters;
mod debezium_input;
mod doctor;
mod failover;
mod failpoints;
mod faults_table;
mod frame;
mod groups;
mod operations;
mod poison;
mod references;
mod registry_away;
mod replay;
mod replica;
mod rules;
mod schedules;
mod side_by_side;
mod side_by_side_random;
mod signals;
mod slots;
mod table_stops;
mod takeover;
mod two_way;
mod worked_examples;
